package api_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// blankLog is an event log of which some records cannot be read, as after a repair.
type blankLog struct {
	api.Log
	blank atomic.Pointer[func(task.Record) bool] // nil = all can
}

func (l *blankLog) Records(from uint64, limit int) ([]task.Record, error) {
	records, err := l.Log.Records(from, limit)
	for i, r := range records {
		if blank := l.blank.Load(); blank != nil && (*blank)(r) {
			records[i] = task.Record{Index: r.Index}
		}
	}
	return records, err
}

// TestChosenResultsOverBlanks: where the records of ends cannot be read, each end comes
// once all the same, and in the same order, wherever a stream breaks.
func TestChosenResultsOverBlanks(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for round := range 6 {
		log := &blankLog{}
		f := setup(t, func(o *api.Options) {
			log.Log = o.Log
			o.Log = log
		})
		const n = 12
		var ids []string
		for i := range n {
			ids = append(ids, fmt.Sprintf("t%02d", i))
		}
		// Not all are submitted before the first ends, so that the numbers of tasks and those
		// of records lie among one another.
		var running []string
		for _, id := range ids {
			f.submit(id)
			f.begin(id)
			if running = append(running, id); rng.IntN(2) == 0 {
				f.end(running[0], 1, "")
				running = running[1:]
			}
		}
		rng.Shuffle(len(running), func(i, j int) { running[i], running[j] = running[j], running[i] })
		for _, id := range running {
			f.end(id, 1, "")
		}
		gone := map[uint64]bool{}
		for i := uint64(1); i <= f.q.LastIndex(); i++ {
			gone[i] = rng.IntN(4) == 0 || round == 0 // of the log, or all of it
		}
		blank := func(r task.Record) bool { return gone[r.Index] || round%2 == 1 && r.Ended() && r.Seq%2 == 0 }
		log.blank.Store(&blank)

		var whole []string
		s := f.results(&pb.StreamTaskResultsRequest{TaskIds: ids, IncludeCompleted: true})
		for range n {
			whole = append(whole, recv(t, s).GetTaskId()+" 1")
		}
		wantEOF(t, s)
		if sorted := slices.Sorted(slices.Values(whole)); len(slices.Compact(sorted)) != n {
			t.Fatalf("round %d: not each end once: %v", round, whole)
		}
		for few := 1; few <= n; few++ {
			req := &pb.StreamTaskResultsRequest{TaskIds: ids, IncludeCompleted: true}
			if got := f.piecemeal(req, n, func() int { return few }); !slices.Equal(got, whole) {
				t.Fatalf("round %d, %d at a time: got %v, want %v", round, few, got, whole)
			}
			wantEOF(t, f.results(req))
		}
	}
}
