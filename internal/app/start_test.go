package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/process"
	"github.com/dspy-agent/dspy-agent/internal/tryopen"
)

// TestMain is the supervisor when the process backend starts it, and the child that
// tries a file system when the queue does: they run the program that they are in.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == process.SupervisorArg {
		os.Exit(process.SupervisorMain(os.Args[2:]))
	}
	if len(os.Args) > 1 && os.Args[1] == tryopen.Arg {
		os.Exit(tryopen.Main(os.Args[2:]))
	}
	code := m.Run()
	if left := supervisors(runtimePrefix); len(left) > 0 {
		fmt.Fprintf(os.Stderr, "tests have left supervisors behind: %v\n", left)
		code = max(code, 1)
	}
	os.Exit(code)
}

// testOptions are those of a daemon in folders of its own, whose supervisor ends with the
// test. The runtime directory
// has a short name, since the path of a socket is limited.
func testOptions(t *testing.T) Options {
	t.Helper()
	run, err := os.MkdirTemp("/tmp", runtimePrefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		endSupervisors(t, run)
		_ = os.RemoveAll(run)
	})
	conf := config.Default(t.TempDir())
	conf.RuntimeDir = run
	return Options{Config: conf}
}

// TestAPartThatFailsAtOnce: a daemon with a part that fails does not say that it
// is ready, and ends with the part's error.
func TestAPartThatFailsAtOnce(t *testing.T) {
	for range 20 { // the part and the readiness race
		o := testOptions(t)
		if err := os.MkdirAll(o.Config.LogDir, 0o700); err != nil {
			t.Fatal(err)
		}
		log, closeLog := newLogger(logFile(o.Config), nil, nil)
		a := &App{conf: o.Config, capacity: capacityOf(o.Config), log: log, down: teardown{log: log}, parts: newParts()}
		a.down.push("log", func(context.Context) error { return closeLog() })
		if err := a.build(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		// The listener is closed under the server, which thus fails at once.
		if err := a.listeners[0].Close(); err != nil {
			t.Fatal(err)
		}
		said := false
		err := a.serve(t.Context(), func(string) { said = true })
		if stop := a.down.run(); stop != nil {
			t.Error(stop)
		}
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("serve ended with %v, not with the part's error", err)
		}
		if said {
			t.Fatal("a daemon that failed said that it was ready")
		}
	}
}

// TestReadyIsNotSaidAfterTheEnd: where the supervisor has been reached and the
// daemon is to leave at the same time, leaving counts.
func TestReadyIsNotSaidAfterTheEnd(t *testing.T) {
	o := testOptions(t)
	said := make(chan string, 1)
	ctx, cancel := context.WithCancel(t.Context())
	o.Ready = func(socket string) { said <- socket; cancel() }
	if err := Run(ctx, o); err != nil {
		t.Fatal(err)
	}
	if socket := <-said; filepath.Dir(socket) != filepath.Join(o.Config.RuntimeDir, "dspy-agent") {
		t.Errorf("it serves %s", socket)
	}
	// The context has ended: the same start says nothing.
	o.Ready = func(string) { t.Error("a daemon that was told to leave said that it was ready") }
	if err := Run(ctx, o); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}
