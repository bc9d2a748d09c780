package envmgr_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/envmgr"
	"github.com/dspy-agent/dspy-agent/envmgr/probe"
	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/dockertest"
)

func TestMain(m *testing.M) { os.Exit(dockertest.Main(m)) }

// bed is an engine with supervisors, one after the other.
type bed struct {
	*testing.T
	engine *dockertest.Engine
	api    *docker.Client // for what happens behind the supervisor's back
	set    envmgr.Set
	site   string
	sup    *envmgr.Supervisor
	stop   func()
}

// standin is a service that listens after a while.
func standin(name string, delay time.Duration, needs ...string) envmgr.Definition {
	d := envmgr.Definition{
		Name: name, Image: dockertest.Standin, Command: []string{"sleep=" + delay.String(), "listen=:8080", "hang"}, Required: true,
		Ready: probe.Spec{Kind: probe.HTTP, Port: 8080, Path: "/health"},
	}
	for _, n := range needs {
		d.Needs = append(d.Needs, envmgr.Need{Name: n})
	}
	return d
}

// three need each other in a row.
func three() []envmgr.Definition {
	return []envmgr.Definition{standin("router", 50*time.Millisecond, "node"), standin("node", 200*time.Millisecond, "redis"), standin("redis", 100*time.Millisecond)}
}

func newBed(t *testing.T, e *dockertest.Engine, all ...envmgr.Definition) *bed {
	t.Helper()
	e.LoadStandin(t)
	c, err := docker.New(docker.Options{Host: e.Address()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	b := &bed{T: t, engine: e, api: c, site: strings.ToLower(t.Name())}
	b.define(all...)
	return b
}

func (b *bed) define(all ...envmgr.Definition) {
	b.Helper()
	set, err := envmgr.NewSet(all)
	if err != nil {
		b.Fatal(err)
	}
	b.set = set
}

// policy is quicker than people need it.
func policy() envmgr.Policy {
	p := envmgr.Defaults()
	p.Steady, p.Doubt, p.StopTimeout = 300*time.Millisecond, 100*time.Millisecond, time.Second
	p.FirstDelay, p.LastDelay = 100*time.Millisecond, 500*time.Millisecond
	return p
}

// begin runs a supervisor until the test ends, or another begins.
func (b *bed) begin() {
	b.Helper()
	b.end()
	c, err := docker.New(docker.Options{Host: b.engine.Address(), Pulse: time.Second})
	if err != nil {
		b.Fatal(err)
	}
	b.sup = envmgr.New(envmgr.Options{
		Engine: c, Set: b.set, Site: b.site, Network: "net-" + b.site, Policy: policy(), MostStarts: 5, Dial: b.engine.Dial,
		Logger: slog.New(slog.NewTextHandler(testWriter{b}, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := b.sup.Run(ctx); !errors.Is(err, context.Canceled) {
			b.Errorf("it ended with %v", err)
		}
	})
	b.stop = func() { cancel(); wg.Wait(); _ = c.Close() }
	b.Cleanup(b.end)
}

func (b *bed) end() {
	if b.stop != nil {
		b.stop()
		b.stop = nil
	}
}

type testWriter struct{ *bed }

func (w testWriter) Write(p []byte) (int, error) {
	w.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func (b *bed) up(names ...string) {
	b.Helper()
	if err := b.sup.Up(b.Context(), names...); err != nil {
		b.Fatal(err)
	}
}

// wait waits for a snapshot.
func (b *bed) wait(what string, done func(envmgr.Snapshot) bool) envmgr.Snapshot {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	snap, err := b.sup.Wait(ctx, done)
	if err != nil {
		b.Fatalf("%s: %v; it stands so:%s", what, err, words(snap))
	}
	return snap
}

func words(s envmgr.Snapshot) string {
	text := "\n  engine: " + s.Away
	for _, one := range s.Services {
		text += fmt.Sprintf("\n  %s: %s (%s), probe %q, ends %d", one.Name, one.Phase, one.Reason, one.Probe, one.Ends)
	}
	return text
}

func allReady(s envmgr.Snapshot) bool {
	return s.Away == "" && !slices.ContainsFunc(s.Services, func(o envmgr.Status) bool { return !o.Ready() })
}

func (b *bed) allReady() envmgr.Snapshot {
	b.Helper()
	return b.wait("all are ready", allReady)
}

func (b *bed) containers() []docker.Listed {
	b.Helper()
	all, err := b.api.List(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return all
}

// inOrder fails unless each service has begun after those that it needs were ready.
func (b *bed) inOrder(s envmgr.Snapshot) {
	b.Helper()
	for _, one := range s.Services {
		for _, n := range one.Needs {
			if other, _ := s.Of(n); one.Started.Before(other.ReadyAt.Add(-time.Second)) {
				b.Errorf("%s began at %v, and %s was ready at %v", one.Name, one.Started, n, other.ReadyAt)
			}
		}
	}
}

// TestUpAndDown: made in order, found as they are by the next supervisor, ended in the
// opposite order, and begun again without being made anew.
func TestUpAndDown(t *testing.T) {
	t.Parallel()
	b := newBed(t, dockertest.Start(t, dockertest.Config{}), three()...)
	b.begin()
	b.up("router")
	first := b.allReady()
	b.inOrder(first)
	b.begin()    // another one, after an end that nobody noticed
	b.allReady() // and it ends nothing before it is told what is wanted
	b.up("router")
	again := b.allReady()
	for i, one := range again.Services {
		if one.Container != first.Services[i].Container || !one.Started.Equal(first.Services[i].Started) || !one.Found || first.Services[i].Found {
			t.Errorf("%s is another one now, or was not taken for the same", one.Name)
		}
	}
	if all := b.containers(); len(all) != 3 {
		t.Errorf("there are %d containers", len(all))
	}
	ended, err := b.sup.Down(t.Context(), "redis")
	if err != nil || len(ended) != 3 {
		t.Fatalf("%v are to end (%v)", ended, err)
	}
	b.wait("all are stopped", func(s envmgr.Snapshot) bool {
		return !slices.ContainsFunc(s.Services, func(o envmgr.Status) bool { return o.Phase != envmgr.Stopped })
	})
	b.up("router")
	for i, one := range b.allReady().Services {
		if one.Container != first.Services[i].Container {
			t.Errorf("%s was made anew", one.Name)
		}
	}
	changed := three()
	changed[1].Env = []string{"A=B"}
	b.define(changed...)
	b.begin()
	b.up("router")
	b.wait("the changed one is made anew, and all are ready", func(s envmgr.Snapshot) bool {
		node, _ := s.Of("node")
		return allReady(s) && node.Container != first.Services[1].Container
	})
}

// TestKilledFrozenAndGone: whatever ends a service, it is there again.
func TestKilledFrozenAndGone(t *testing.T) {
	t.Parallel()
	b := newBed(t, dockertest.Start(t, dockertest.Config{}), three()...)
	b.begin()
	b.up("router")
	first := b.allReady()
	for _, one := range first.Services {
		before := time.Now()
		if err := b.api.Kill(t.Context(), one.Container, "KILL"); err != nil {
			t.Fatal(err)
		}
		snap := b.wait(one.Name+" is there again", func(s envmgr.Snapshot) bool {
			now, _ := s.Of(one.Name)
			return now.Started.After(one.Started) && allReady(s)
		})
		now, _ := snap.Of(one.Name)
		t.Logf("%s, killed, was ready again after %v", one.Name, time.Since(before).Round(time.Millisecond))
		if now.Container != one.Container {
			t.Errorf("%s was made anew", one.Name)
		}
	}
	// One that is frozen has its port open, and does not answer.
	snap := b.sup.Snapshot()
	redis, _ := snap.Of("redis")
	info, err := b.api.Inspect(t.Context(), redis.Container)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(info.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	b.wait("the frozen one is started anew", func(s envmgr.Snapshot) bool {
		now, _ := s.Of("redis")
		return now.Started.After(redis.Started) && allReady(s)
	})
	// One that is removed is made anew.
	if err := b.api.Remove(t.Context(), redis.Container); err != nil {
		t.Fatal(err)
	}
	b.wait("the one that was removed is there again", func(s envmgr.Snapshot) bool {
		now, _ := s.Of("redis")
		return now.Container != redis.Container && allReady(s)
	})
}

// TestEngineRestarted: after the end of the engine all is as before, in order.
func TestEngineRestarted(t *testing.T) {
	t.Parallel()
	b := newBed(t, dockertest.Start(t, dockertest.Config{}), three()...)
	b.begin()
	b.up("router")
	first := b.allReady()
	if err := b.engine.Kill(); err != nil {
		t.Fatal(err)
	}
	b.wait("its end is told", func(s envmgr.Snapshot) bool { return s.Away != "" })
	if err := b.engine.Up(); err != nil {
		t.Fatal(err)
	}
	after := b.allReady()
	b.inOrder(after)
	for i, one := range after.Services {
		if one.Container != first.Services[i].Container {
			t.Errorf("%s was made anew", one.Name)
		}
	}
}

// TestCrashLoop: one that ends over and over is left alone after a while, with what it
// said, and nothing else suffers but who needs it.
func TestCrashLoopAlone(t *testing.T) {
	t.Parallel()
	bad := standin("bad", 0)
	bad.Command = []string{"say=I cannot", "exit=3"}
	b := newBed(t, dockertest.Start(t, dockertest.Config{}), append(three(), bad, standin("user", 0, "bad"))...)
	b.begin()
	b.up("router", "user")
	snap := b.wait("it is left alone", func(s envmgr.Snapshot) bool {
		bad, _ := s.Of("bad")
		router, _ := s.Of("router")
		return bad.Phase == envmgr.Failed && router.Ready() && len(bad.Output) > 0 // which is read after its end
	})
	user, _ := snap.Of("user")
	one, _ := snap.Of("bad")
	if !user.Hopeless || user.Phase != envmgr.Waiting || !strings.Contains(one.Reason, "exit code 3") || !strings.HasSuffix(one.Reason, `it said last: "I cannot"`) {
		t.Errorf("it stands so:%s", words(snap))
	}
}

// TestOthersContainers: compose's are adopted where they are, and nobody else's is touched.
func TestOthersContainers(t *testing.T) {
	t.Parallel()
	b := newBed(t, dockertest.Start(t, dockertest.Config{}), standin("redis", 0), standin("node", 0, "redis"), standin("mine", 0), standin("looping", 0))
	other := func(name string, labels map[string]string) string {
		id, err := b.api.CreateService(t.Context(), docker.ServiceSpec{Name: name, Image: dockertest.Standin, Command: []string{"listen=:8080", "hang"}, Labels: labels})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	composed := func(service string) map[string]string {
		return map[string]string{"com.docker.compose.service": service, "com.docker.compose.project": "stack", "com.docker.compose.oneoff": "False"}
	}
	redis := other("stack_redis_1", composed("redis"))
	mine := other("mine", nil)
	b.begin()
	b.up("node", "mine")
	snap := b.wait("two are ready, and the third is told of", func(s envmgr.Snapshot) bool {
		redis, _ := s.Of("redis")
		node, _ := s.Of("node")
		mine, _ := s.Of("mine")
		return redis.Ready() && node.Ready() && mine.Phase == envmgr.Blocked
	})
	one, _ := snap.Of("redis")
	if one.Container != redis || !strings.Contains(one.Adopted, "compose (project stack)") {
		t.Errorf("redis is %+v", one)
	}
	if err := b.api.Kill(t.Context(), redis, "KILL"); err != nil {
		t.Fatal(err)
	}
	b.wait("compose's is started again", func(s envmgr.Snapshot) bool {
		now, _ := s.Of("redis")
		return now.Started.After(one.Started) && now.Ready()
	})
	if err := b.engine.Client(t).ContainerRename(t.Context(), mine, "other"); err != nil {
		t.Fatal(err)
	}
	b.wait("once the name is free it is taken", func(s envmgr.Snapshot) bool {
		m, _ := s.Of("mine")
		return m.Ready() && m.Container != mine
	})
	b.engineRestarts(composed("looping"))
}

// engineRestarts: one that the engine starts again over and over is told of as what it is,
// left to the engine, and ended when nobody wants it.
func (b *bed) engineRestarts(labels map[string]string) {
	b.Helper()
	made := b.engine.Run(b, dockertest.Run{Image: dockertest.Standin, Name: "stack_looping_1", Args: []string{"exit=3"}, Labels: labels, Restart: true})
	b.wait("it is seen", func(s envmgr.Snapshot) bool {
		one, _ := s.Of("looping")
		return one.Container == made.ID
	})
	b.up("looping")
	b.wait("its ends are counted between its starts by the engine", func(s envmgr.Snapshot) bool {
		one, _ := s.Of("looping")
		return one.Ends >= 3 && one.Phase == envmgr.BackingOff && strings.Contains(one.Reason, "the engine starts it again; it ended with exit code 3")
	})
	if _, err := b.sup.Down(b.Context(), "looping"); err != nil {
		b.Fatal(err)
	}
	b.wait("it is ended", func(s envmgr.Snapshot) bool {
		one, _ := s.Of("looping")
		return one.Phase == envmgr.Stopped
	})
	if is, err := b.api.InspectService(b.Context(), made.ID); err != nil || is.Restarting || is.Phase != docker.Exited {
		b.Errorf("it is %+v, %v", is, err)
	}
}
