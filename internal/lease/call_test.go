package lease_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/lease"
)

// TestCallsThroughFiles: each call is seen once, whole, and so is each answer.
func TestCallsThroughFiles(t *testing.T) {
	t.Parallel()
	f := folder(t)
	out, in := lease.NewOutbox(f), lease.NewInbox(f)
	for id := uint64(1); id <= 3; id++ {
		must(t, out.Ask(lease.Call{ID: id, Waiting: []uint64{8, 9}, Method: "M", Body: []byte(strings.Repeat("x", int(id)*100))}))
	}
	calls, err := in.Calls()
	if err != nil || len(calls) != 1 || calls[0].ID != 3 || calls[0].Method != "M" || len(calls[0].Body) != 300 {
		t.Fatalf("%v, %v; want the only one that is waited for", calls, err)
	}
	for id := uint64(4); id <= 6; id++ {
		must(t, out.Ask(lease.Call{ID: id, Method: "M"}))
	}
	if calls, err = in.Calls(); err != nil || len(calls) != 3 {
		t.Fatalf("%v, %v", calls, err)
	}
	if calls, err = in.Calls(); err != nil || len(calls) != 0 {
		t.Fatalf("%v, %v", calls, err)
	}
	must(t, in.Reply(lease.Reply{ID: 1, Failed: true, Body: []byte("no")}))
	replies, err := out.Replies()
	if err != nil || len(replies) != 1 || !replies[0].Failed || string(replies[0].Body) != "no" {
		t.Fatalf("%v, %v", replies, err)
	}
	if replies, err = out.Replies(); err != nil || len(replies) != 0 {
		t.Fatalf("%v, %v", replies, err)
	}
}

// TestLaterOwner: an owner that follows another is asked what the worker still waits for,
// and that one has not answered.
func TestLaterOwner(t *testing.T) {
	t.Parallel()
	f := folder(t)
	out, first := lease.NewOutbox(f), lease.NewInbox(f)
	must(t, out.Ask(lease.Call{ID: 1, Method: "M"}))
	must(t, out.Ask(lease.Call{ID: 2, Waiting: []uint64{1}, Method: "M"}))
	must(t, first.Reply(lease.Reply{ID: 2}))
	must(t, out.Ask(lease.Call{ID: 3, Waiting: []uint64{1}, Method: "M"}))
	must(t, first.Reply(lease.Reply{ID: 3}))
	must(t, out.Ask(lease.Call{ID: 4, Waiting: []uint64{1, 3}, Method: "M"})) // it has not read the answer yet
	later := lease.NewInbox(f)
	if got := ids(later.Calls()); !slices.Equal(got, []uint64{1, 4}) {
		t.Errorf("asked %v, want 1 and 4", got)
	}
}

func ids(calls []lease.Call, err error) (out []uint64) {
	for _, c := range calls {
		out = append(out, c.ID)
	}
	if err != nil {
		out = append(out, 0)
	}
	return out
}

// TestFilesAreBegunAnew: the files do not grow for ever, and nothing is lost that somebody
// waits for, nor seen twice by the same owner.
func TestFilesAreBegunAnew(t *testing.T) {
	defer lease.SetAnewAt(2000)()
	f := folder(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	out, in := lease.NewOutbox(f), lease.NewInbox(f)
	var waiting []uint64
	asked, answered := map[uint64]bool{}, map[uint64]bool{}
	for id := uint64(1); id <= 3000; id++ {
		must(t, out.Ask(lease.Call{ID: id, Waiting: slices.Clone(waiting), Method: "M", Body: make([]byte, 30)}))
		waiting = append(waiting, id)
		switch rnd.IntN(20) {
		case 0:
			in = lease.NewInbox(f) // the daemon is restarted, and may be asked again
			clear(asked)
		case 1:
			continue // the owner is slow
		}
		calls, err := in.Calls()
		must(t, err)
		for _, c := range calls {
			if asked[c.ID] {
				t.Fatalf("call %d is seen twice", c.ID)
			}
			asked[c.ID] = true
			if rnd.IntN(10) > 0 { // others take long
				must(t, in.Reply(lease.Reply{ID: c.ID, Body: make([]byte, 40)}))
			}
		}
		replies, err := out.Replies()
		must(t, err)
		for _, r := range replies {
			answered[r.ID] = true
		}
		waiting = slices.DeleteFunc(waiting, func(id uint64) bool { return answered[id] })
		if len(waiting) > 10 {
			waiting = waiting[5:] // nobody waits so long
		}
	}
	for _, path := range []string{f.Ask(), f.Answer()} {
		if info, err := os.Stat(path); err != nil || info.Size() > 5000 {
			t.Errorf("%s: %v bytes, %v", path, info.Size(), err)
		}
	}
	if len(answered) < 2000 {
		t.Errorf("%d of 3000 calls were answered", len(answered))
	}
	// All that is waited for, and was not answered, is seen by the next.
	must(t, out.Ask(lease.Call{ID: 3001, Waiting: waiting, Method: "M"}))
	got := ids(lease.NewInbox(f).Calls())
	if want := append(slices.Clone(waiting), 3001); !slices.Equal(got, want) {
		t.Errorf("the next owner is asked %v, want %v", got, want)
	}
}

// TestTooLargeACall: it is refused, and what follows goes on.
func TestTooLargeACall(t *testing.T) {
	t.Parallel()
	f := folder(t)
	out, in := lease.NewOutbox(f), lease.NewInbox(f)
	if err := out.Ask(lease.Call{ID: 1, Method: "M", Body: make([]byte, 64<<20)}); !errors.Is(err, lease.ErrTooLarge) {
		t.Fatal(err)
	}
	body := bytes.Repeat([]byte("x"), 1<<20)
	must(t, out.Ask(lease.Call{ID: 2, Method: "M", Body: body}))
	calls, err := in.Calls()
	if err != nil || len(calls) != 1 || !bytes.Equal(calls[0].Body, body) {
		t.Fatalf("%d calls, %v", len(calls), err)
	}
}

// TestNewFileIsLarger: a file that was begun anew is read from its beginning, also where it
// has outgrown the former one before anybody looks.
func TestNewFileIsLarger(t *testing.T) {
	defer lease.SetAnewAt(1000)()
	f := folder(t)
	out, in := lease.NewOutbox(f), lease.NewInbox(f)
	for id := uint64(1); id <= 3; id++ {
		must(t, out.Ask(lease.Call{ID: id, Method: "M", Body: make([]byte, 1000*id)}))
		if got := ids(in.Calls()); !slices.Equal(got, []uint64{id}) {
			t.Fatalf("%v, want %d", got, id)
		}
		must(t, in.Reply(lease.Reply{ID: id, Body: make([]byte, 1000*id)}))
		if replies, err := out.Replies(); err != nil || len(replies) == 0 || replies[len(replies)-1].ID != id {
			t.Fatalf("%v, %v", replies, err)
		}
	}
}

// TestFullDisk: a call of which only a part could be written is taken back, so that the
// next is read.
func TestFullDisk(t *testing.T) {
	f := folder(t)
	out, in := lease.NewOutbox(f), lease.NewInbox(f)
	must(t, out.Ask(lease.Call{ID: 1, Method: "M"}))
	info, err := os.Stat(f.Ask())
	must(t, err)
	signal.Ignore(unix.SIGXFSZ)
	defer signal.Reset(unix.SIGXFSZ)
	var was unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &was))
	must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: uint64(info.Size()) + 50, Max: was.Max}))
	err = out.Ask(lease.Call{ID: 2, Method: "M", Body: make([]byte, 1000)})
	must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &was))
	if err == nil {
		t.Fatal("it was written where there is no room")
	}
	must(t, out.Ask(lease.Call{ID: 3, Waiting: []uint64{1}, Method: "M"}))
	if got := ids(in.Calls()); !slices.Equal(got, []uint64{1, 3}) {
		t.Errorf("asked %v, want 1 and 3", got)
	}
}

// TestUnreadAnswersStay: answers that the worker waits for are in the new file, too.
func TestUnreadAnswersStay(t *testing.T) {
	defer lease.SetAnewAt(1000)()
	f := folder(t)
	out, in := lease.NewOutbox(f), lease.NewInbox(f)
	var waiting []uint64
	for id := uint64(1); id <= 9; id++ {
		must(t, out.Ask(lease.Call{ID: id, Waiting: waiting, Method: "M"}))
		waiting = append(waiting, id)
	}
	if got := ids(in.Calls()); !slices.Equal(got, waiting) {
		t.Fatalf("asked %v", got)
	}
	for _, id := range waiting {
		must(t, in.Reply(lease.Reply{ID: id, Body: make([]byte, 300)}))
	}
	replies, err := out.Replies()
	must(t, err)
	var got []uint64
	for _, r := range replies {
		got = append(got, r.ID)
	}
	if !slices.Equal(got, waiting) {
		t.Errorf("answers to %v, want %v", got, waiting)
	}
}
