package app

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// TestStopWithBusyCallers: a daemon that is asked to leave answers whoever calls, and
// is gone at once.
func TestStopWithBusyCallers(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	o.Config.GRPCListen, o.Config.HTTPListen = "", ""
	d, err := startDaemon(t, o)
	if err != nil {
		t.Fatal(err)
	}
	const callers = 16
	ends := make(chan error, callers)
	busy := make(chan struct{}, callers)
	for range callers {
		go func() {
			for n := 0; ; n++ {
				_, err := d.PauseClass(context.Background(), &pb.PauseClassRequest{Class: config.DefaultClass})
				if err != nil {
					ends <- err
					return
				}
				if n == 0 {
					busy <- struct{}{}
				}
			}
		}()
	}
	for range callers {
		<-busy
	}
	began := time.Now()
	if err := d.stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("the stop took %s", took)
	}
	for range callers {
		if err := <-ends; task.CodeOf(err) != task.CodeUnavailable {
			t.Errorf("a caller was answered %v", err)
		}
	}
}

// TestPartsEndInReverse: what a part needs while it ends is still there.
func TestPartsEndInReverse(t *testing.T) {
	t.Parallel()
	a := &App{parts: newParts()}
	var order []string
	for _, name := range []string{"first", "second", "third"} {
		a.run(name, func(ctx context.Context) error {
			<-ctx.Done()
			order = append(order, name) // one at a time, or the race detector complains
			return nil
		})
	}
	if err := a.down.run(); err != nil {
		t.Error(err)
	}
	if got := strings.Join(order, " "); got != "third second first" {
		t.Errorf("they ended in the order %s", got)
	}
}

// TestOneFailureIsTold: a part that fails ends the serving with its error, which its
// teardown does not repeat; that of another is not lost.
func TestOneFailureIsTold(t *testing.T) {
	t.Parallel()
	a := &App{parts: newParts()}
	a.run("one", func(context.Context) error { return net.ErrClosed })
	<-a.parts.ended
	a.run("two", func(ctx context.Context) error { <-ctx.Done(); return os.ErrDeadlineExceeded })
	if a.parts.failure != net.ErrClosed { //nolint:errorlint // it is the very error
		t.Errorf("the failure is %v", a.parts.failure)
	}
	err := a.down.run()
	if !errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
		t.Errorf("the teardown says %v", err)
	}
}
