package envmgr_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/dspy-agent/dspy-agent/envmgr"
	"github.com/dspy-agent/dspy-agent/envmgr/probe"
	"github.com/dspy-agent/dspy-agent/internal/docker"
)

// awayEngine is one that is never reached.
type awayEngine struct{ envmgr.Engine }

func (awayEngine) Follow(ctx context.Context, _ []string, _ docker.Handler) { <-ctx.Done() }

// TestAnswerIsSeen: who has been answered sees no snapshot from before, in which nobody
// wanted the service: that would be taken for the end of its start.
func TestAnswerIsSeen(t *testing.T) {
	t.Parallel()
	const many = 200
	var all []envmgr.Definition
	for i := range many {
		all = append(all, envmgr.Definition{Name: fmt.Sprint("s", i), Image: "s:1", Ready: probe.Spec{Kind: probe.None}})
	}
	set, err := envmgr.NewSet(all)
	if err != nil {
		t.Fatal(err)
	}
	sup := envmgr.New(envmgr.Options{Engine: awayEngine{}, Set: set, Site: "here", Policy: envmgr.Defaults(), Logger: slog.New(slog.DiscardHandler)})
	ctx, stop := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { _ = sup.Run(ctx) }) // it ends with ctx
	defer run.Wait()
	defer stop()
	for _, d := range all {
		if err := sup.Up(ctx, d.Name); err != nil {
			t.Fatal(err)
		}
		if one, ok := sup.Snapshot().Of(d.Name); !ok || one.Want != envmgr.Up || one.Settled() {
			t.Fatalf("after Up it is %+v", one)
		}
		if _, err := sup.Down(ctx, d.Name); err != nil {
			t.Fatal(err)
		}
		if one, _ := sup.Snapshot().Of(d.Name); one.Want != envmgr.Down {
			t.Fatalf("after Down it is %+v", one)
		}
	}
}
