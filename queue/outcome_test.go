package queue

import (
	"context"
	"errors"
	"syscall"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// failingDisk fails commits: those that are to land do, and only their last sync fails.
type failingDisk struct {
	q     *Queue
	lands []bool // of the commits that fail, in order
}

func (d *failingDisk) store(tx *bolt.Tx) error {
	if len(d.lands) == 0 {
		return d.q.commitTx(tx)
	}
	lands := d.lands[0]
	d.lands = d.lands[1:]
	if !lands {
		return errors.Join(syscall.EIO, tx.Rollback())
	}
	return errors.Join(syscall.EIO, d.q.commitTx(tx))
}

// TestWhatAFailedCommitIsAnswered: a caller is told "not stored" only when that is so.
func TestWhatAFailedCommitIsAnswered(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		lands   []bool
		ok      bool
		unknown bool
	}{
		{"it is not there", []bool{false}, false, false},
		{"it is there, and the next commit says so", []bool{true}, true, false},
		{"it is there, as long as there is power", []bool{true, false}, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			q := openHere(t)
			disk := &failingDisk{q: q, lands: c.lands}
			q.writer.store = disk.store // the writer is idle, and takes no request but through a lock
			send := func() (Submitted, error) {
				got, err := q.Submit(context.Background(), []*task.Spec{trueSpec("a")})
				if err != nil {
					return Submitted{}, err
				}
				return got[0], nil
			}
			_, err := send()
			if (err == nil) != c.ok || errors.Is(err, ErrOutcomeUnknown) != c.unknown {
				t.Fatalf("the caller is told: %v", err)
			}
			if err != nil && (task.CodeOf(err) != task.CodeUnavailable || !errors.Is(err, syscall.EIO)) {
				t.Errorf("code %s: %v", task.CodeOf(err), err)
			}
			if trouble := q.Trouble(); (trouble != nil) != (err != nil) {
				t.Errorf("the trouble is %v", trouble)
			}
			again, err := send() // the disk works again
			if err != nil || again.Task.Seq != 1 || again.Existing != c.lands[0] {
				t.Errorf("sent again it is number %d, there before: %v, %v", again.Task.Seq, again.Existing, err)
			}
			if err := q.Trouble(); err != nil {
				t.Errorf("after a commit that worked: %v", err)
			}
		})
	}
}
