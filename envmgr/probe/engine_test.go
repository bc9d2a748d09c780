package probe_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspy-agent/dspy-agent/envmgr/probe"
)

var errEngine = errors.New("no such container")

func TestExec(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		exit   int
		output string
		err    error
		want   error
		says   string
	}{
		"ready":       {0, "accepting connections", nil, nil, "pg_isready ended with 0"},
		"not ready":   {2, "no response\n", nil, probe.ErrFailed, "pg_isready ended with 2: no response"},
		"quiet":       {1, "", nil, probe.ErrFailed, "pg_isready ended with 1"},
		"missing":     {127, "not found", nil, probe.ErrFailed, "does the image have it?: not found"},
		"long":        {1, strings.Repeat("\x1b[1mx\r\n", 1000), nil, probe.ErrFailed, "..."},
		"not started": {0, "", errEngine, probe.ErrNotAsked, "was not run in the container: no such container"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := probe.Target{Container: "c1", Engine: engine{exec: func(_ context.Context, id string, command []string) (int, string, error) {
				if id != "c1" || !slices.Equal(command, []string{"pg_isready", "-q"}) {
					t.Errorf("%q was run in %q", command, id)
				}
				return tc.exit, tc.output, tc.err
			}}}
			r := probe.Run(t.Context(), probe.Spec{Kind: probe.Exec, Command: []string{"pg_isready", "-q"}}, target)
			expect(t, r, tc.want, tc.says)
			if len(r.Detail) > 300 || strings.ContainsAny(r.Detail, "\x1b\r\n") {
				t.Errorf("%q", r.Detail)
			}
			if tc.err != nil && !errors.Is(r.Err, tc.err) {
				t.Errorf("%v does not wrap what the engine said", r.Err)
			}
		})
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		status, output string
		err            error
		want           error
		says           string
	}{
		"healthy":   {"healthy", "ok", nil, nil, "its health check says healthy"},
		"starting":  {"starting", "", nil, probe.ErrFailed, "its health check says starting"},
		"unhealthy": {"unhealthy", "curl: (7) refused\n", nil, probe.ErrFailed, "says unhealthy: curl: (7) refused"},
		"none":      {"none", "", nil, probe.ErrNoCheck, "write another kind of probe"},
		"nothing":   {"", "", nil, probe.ErrNoCheck, "has no health check"},
		"unknown":   {"so-so", "", nil, probe.ErrFailed, "says so-so"},
		"no answer": {"", "", errEngine, probe.ErrNotAsked, "no such container"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := probe.Target{Container: "c1", Engine: engine{health: func(_ context.Context, id string) (string, string, error) {
				if id != "c1" {
					t.Errorf("asked about %q", id)
				}
				return tc.status, tc.output, tc.err
			}}}
			expect(t, probe.Run(t.Context(), probe.Spec{Kind: probe.Health}, target), tc.want, tc.says)
		})
	}
}

func TestNoEngine(t *testing.T) {
	t.Parallel()
	for _, s := range []probe.Spec{{Kind: probe.Exec, Command: []string{"true"}}, {Kind: probe.Health}} {
		expect(t, probe.Run(t.Context(), s, probe.Target{}), probe.ErrNotAsked, "no engine to ask")
	}
}

func TestNone(t *testing.T) {
	t.Parallel()
	expect(t, probe.Run(t.Context(), probe.Spec{Kind: probe.None}, probe.Target{}), nil, "is not probed")
}

// hanging is an engine that answers nothing, and gives up when it is told to.
var hanging = engine{
	exec: func(ctx context.Context, _ string, _ []string) (int, string, error) {
		<-ctx.Done()
		return 0, "", ctx.Err()
	},
	health: func(ctx context.Context, _ string) (string, string, error) {
		<-ctx.Done()
		return "", "", ctx.Err()
	},
}

func TestEngineThatHangs(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		spec probe.Spec
		took time.Duration
		says string
	}{
		{probe.Spec{Kind: probe.Exec, Command: []string{"sleep"}}, 10 * time.Second, "sleep did not end within 10s"},
		{probe.Spec{Kind: probe.Exec, Command: []string{"sleep"}, Timeout: time.Minute}, time.Minute, "sleep did not end within 1m0s"},
		{probe.Spec{Kind: probe.Health}, 5 * time.Second, "the engine did not say how the container is within 5s"},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := probe.Run(t.Context(), tc.spec, probe.Target{Engine: hanging})
			expect(t, probe.Result{Detail: r.Detail, Err: r.Err}, probe.ErrSilent, tc.says)
			if r.Took != tc.took {
				t.Errorf("took %v", r.Took)
			}

			why := errors.New("the environment is being stopped")
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Second, func() { cancel(why) })
			r = probe.Run(ctx, tc.spec, probe.Target{Engine: hanging})
			expect(t, r, why, "given up: the environment is being stopped")
			expect(t, r, context.Canceled, "")
			if r.Took != time.Second {
				t.Errorf("given up after %v", r.Took)
			}
		})
	}
}
