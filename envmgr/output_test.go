package envmgr

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/docker"
)

// printer is an engine whose containers have printed much.
type printer struct{ Engine }

func (printer) Logs(ctx context.Context, _ string, o docker.LogOptions, take func(docker.Entry) error, _ func() error) error {
	for i := range 2 * o.Tail {
		if err := take(docker.Entry{Text: fmt.Appendf(nil, "line %d\xff%s\n", i, strings.Repeat("x", 2*tailLine))}); err != nil {
			return err
		}
	}
	return take(docker.Entry{Text: []byte("panic: no data\r\n")})
}

// TestOutputOfFailed: one that has failed is told with what it printed last, and with that
// only as long as it has failed.
func TestOutputOfFailed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c := desk(t, nil, named("bad"))
		c.opts.Engine, c.ctx = printer{}, ctx
		w := c.services["bad"]
		w.seen.box = &Box{ID: "x"}
		c.tail(w)
		synctest.Wait()
		select {
		case <-c.calls:
			t.Error("what a container of another definition has printed is told")
		default:
		}
		w.seen.box.Current = true
		w.state.Phase, w.state.Reason = Failed, "it ended 8 times"
		c.tail(w)
		(<-c.calls)(c)
		one, _ := c.snapshot().Of("bad")
		if one.Reason != `it ended 8 times; it said last: "panic: no data"` || len(one.Output) != tailLines || len(one.Output[0]) > tailLine+3 {
			t.Errorf("it is %q with %q", one.Reason, one.Output)
		}
		c.awayFor, w.looked, w.state.Want = "", true, Up
		c.next(w, time.Now())
		if one, _ := c.snapshot().Of("bad"); one.Phase == Failed || len(one.Output) > 0 {
			t.Errorf("it is %s with %q", one.Phase, one.Output)
		}
		cancel()
		c.work.Wait()
	})
}
