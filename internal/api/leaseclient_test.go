package api_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/lease"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// patient answers Lease after its wait, and says which worker asked.
type patient struct{ asked chan string }

func (p patient) Lease(ctx context.Context, w lease.Want) (lease.Grant, error) {
	p.asked <- w.Worker
	select {
	case <-time.After(w.Wait):
		return lease.Grant{Lease: 7}, nil
	case <-ctx.Done():
		return lease.Grant{}, ctx.Err()
	}
}

func (p patient) Extend(_ context.Context, h lease.Hold) (lease.Orders, error) {
	return lease.Orders{Serial: h.Seen + h.Leased + uint64(len(h.Waiting)), Stop: h.Waiting}, nil
}

func (p patient) Complete(_ context.Context, _ string, reports []lease.Report) (settled []task.Ref, err error) {
	for _, r := range reports {
		settled = append(settled, r.Ref)
	}
	return settled, nil
}

// hear answers what is asked through files, as a daemon does until ctx ends.
func hear(ctx context.Context, f lease.Folder, owner lease.Owner) {
	in := lease.NewInbox(f)
	var answering sync.WaitGroup
	defer answering.Wait()
	look := time.NewTicker(25 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		calls, _ := in.Calls() // there is nothing else to read
		for _, c := range calls {
			answering.Go(func() {
				r := api.AnswerWorker(ctx, owner, c)
				if r.ID = c.ID; ctx.Err() == nil { // one that is killed says nothing
					_ = in.Reply(r) // else the worker says so
				}
			})
		}
	}
}

// TestCallsThroughFiles: calls through files bring what those by a connection do, and one
// that a daemon did not come to answer is answered by the next as if it had been asked.
func TestCallsThroughFiles(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := lease.FolderOf(t.TempDir(), "worker12345678")
		if err := f.Make(lease.Card{}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		defer all.Wait()
		defer cancel()
		conn := api.NewFileConn(f)
		all.Go(func() { _ = conn.Run(ctx) }) // never fails
		p := patient{asked: make(chan string, 10)}
		first, kill := context.WithCancel(ctx)
		all.Go(func() { hear(first, f, p) })
		o := api.NewLeaseOwner(conn)
		ref := task.Ref{Seq: 5, Attempt: 2}
		orders, err := o.Extend(ctx, lease.Hold{Worker: f.ID(), Seen: 3, Leased: 30, Waiting: []task.Ref{ref}})
		if err != nil || orders.Serial != 34 || len(orders.Stop) != 1 || orders.Stop[0] != ref {
			t.Fatalf("%+v, %v", orders, err)
		}
		began := time.Now()
		got := make(chan error, 1)
		go func() {
			g, err := o.Lease(ctx, lease.Want{Worker: f.ID(), Wait: 5 * time.Second})
			if err == nil && g.Lease != 7 {
				t.Errorf("%+v", g)
			}
			got <- err
		}()
		<-p.asked
		kill()
		time.Sleep(time.Second)
		all.Go(func() { hear(ctx, f, p) })
		if settled, err := o.Complete(ctx, f.ID(), []lease.Report{{Ref: ref}}); err != nil || len(settled) != 1 || settled[0] != ref {
			t.Errorf("%v, %v", settled, err)
		}
		if err := <-got; err != nil || time.Since(began) > 7*time.Second {
			t.Errorf("the call that the first daemon did not answer: %v, after %v", err, time.Since(began))
		}
		if len(p.asked) != 1 {
			t.Errorf("the next daemon was asked %d times", len(p.asked))
		}
	})
}
