package envmgr_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspy-agent/dspy-agent/envmgr"
	"github.com/dspy-agent/dspy-agent/envmgr/enginetest"
	"github.com/dspy-agent/dspy-agent/envmgr/probe"
	"github.com/dspy-agent/dspy-agent/internal/docker"
)

// model is a supervisor with an engine that is not there, in a bubble of its own time.
type model struct {
	*testing.T
	*enginetest.Engine
	sup   *envmgr.Supervisor
	begin func() // the supervisor's work
	slow  atomic.Bool
}

// modelled runs a test on services that need each other as their names say: "b<a" needs a.
// The engine has their images.
func modelled(t *testing.T, names []string, test func(m *model)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &model{T: t, Engine: &enginetest.Engine{Images: map[string]bool{}}}
		var all []envmgr.Definition
		for _, name := range names {
			name, need, needs := strings.Cut(name, "<")
			d := envmgr.Definition{Name: name, Image: name, Ready: probe.Spec{Kind: probe.None}}
			if needs {
				d.Needs = []envmgr.Need{{Name: need}}
			}
			all, m.Images[name] = append(all, d), true
		}
		set, err := envmgr.NewSet(all)
		if err != nil {
			t.Fatal(err)
		}
		m.sup = envmgr.New(envmgr.Options{Engine: m.Engine, Set: set, Site: "s", Network: "n", Policy: envmgr.Defaults(), Logger: slog.New(slog.DiscardHandler), Now: m.now})
		ctx, cancel := context.WithCancel(t.Context())
		over := make(chan error)
		m.begin = func() {
			go func() { over <- m.sup.Run(ctx) }()
			synctest.Wait()
		}
		test(m)
		cancel()
		if err := <-over; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// now is the time. A supervisor that is slow is so before each decision.
func (m *model) now() time.Time {
	if m.slow.Load() {
		pass(time.Millisecond)
	}
	return time.Now()
}

// pass lets time pass.
func pass(d time.Duration) { time.Sleep(d) } // in a synctest bubble

func (m *model) up(names ...string) {
	m.Helper()
	if err := m.sup.Up(m.Context(), names...); err != nil {
		m.Fatal(err)
	}
}

func (m *model) down(names ...string) {
	m.Helper()
	if _, err := m.sup.Down(m.Context(), names...); err != nil {
		m.Fatal(err)
	}
}

func (m *model) status(name string) envmgr.Status {
	s, _ := m.sup.Snapshot().Of(name)
	return s
}

// expect fails unless a service stands so, once all has come to rest.
func (m *model) expect(name string, p envmgr.Phase) envmgr.Status {
	m.Helper()
	synctest.Wait()
	s := m.status(name)
	if s.Phase != p {
		m.Fatalf("it stands so, and %s should be %s:%s", name, p, words(m.sup.Snapshot()))
	}
	return s
}

// once has a call of a name wait until the test lets it go.
func once(call, what string) (gate func(ctx context.Context, call, what string) error, open func()) {
	held := make(chan struct{})
	var used atomic.Bool
	return func(ctx context.Context, c, w string) error {
		if c != call || what != "" && w != what || used.Swap(true) {
			return nil
		}
		select {
		case <-held:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}, func() { close(held) }
}

func running(name string) docker.Service {
	c := docker.Service{}
	c.Name, c.Phase, c.Started = name, docker.Running, time.Now()
	c.Labels = map[string]string{envmgr.LabelSite: "s", envmgr.LabelService: name}
	return c
}

// TestWhatNobodySpokeOf: a supervisor that has just begun leaves as it is what runs, says
// how it is, and ends it when somebody says so.
func TestWhatNobodySpokeOf(t *testing.T) {
	modelled(t, []string{"a", "b"}, func(m *model) {
		e := m.Engine
		e.Put(running("a"))
		m.begin()
		pass(time.Minute)
		m.expect("a", envmgr.Ready)
		m.expect("b", envmgr.Stopped)
		if m.Calls("Stop")+m.Calls("Start")+m.Calls("CreateService") > 0 {
			m.Error("something was done")
		}
		m.down("a")
		m.expect("a", envmgr.Stopped)
	})
}

// TestWhoAskedSeesTheAnswer: the snapshot after a call knows of it.
func TestWhoAskedSeesTheAnswer(t *testing.T) {
	modelled(t, []string{"a"}, func(m *model) {
		e := m.Engine
		gate, open := once("CreateService", "")
		e.Before(gate)
		m.begin()
		m.slow.Store(true)
		m.up("a")
		if one := m.status("a"); one.Phase != envmgr.Creating || one.Want != envmgr.Up {
			m.Errorf("right after the call it is %s", one.Phase)
		}
		open()
		pass(time.Second)
		m.expect("a", envmgr.Ready)
		m.down("a")
		if one := m.status("a"); one.Phase != envmgr.Stopping {
			m.Errorf("right after the call it is %s", one.Phase)
		}
	})
}

// TestEndDuringAnAct: a service that ends after an act has looked at it, and before that is
// taken in, is started again at once, and not at the next sweep.
func TestEndDuringAnAct(t *testing.T) {
	modelled(t, []string{"a"}, func(m *model) {
		e := m.Engine
		held := make(chan struct{})
		var used atomic.Bool
		// The look of the act that has started it has its answer, and is held up.
		e.After(func(_ context.Context, call, _ string) error {
			if c, _ := e.Of("a"); call == "InspectService" && c.Phase == docker.Running && !used.Swap(true) {
				<-held
			}
			return nil
		})
		m.begin()
		m.up("a")
		synctest.Wait()
		m.Die("a", 1)
		synctest.Wait() // the event is taken in, while the act is under way
		close(held)
		pass(time.Second)
		one := m.expect("a", envmgr.Ready)
		if m.Calls("Start") != 2 || one.Ends != 1 {
			m.Errorf("it was started %d times, and has ended %d times", m.Calls("Start"), one.Ends)
		}
	})
}

// TestLookAroundDuringAnAct: what was seen of everything before something was done for a
// service is not believed of that one.
func TestLookAroundDuringAnAct(t *testing.T) {
	modelled(t, []string{"a", "b"}, func(m *model) {
		e := m.Engine
		held := make(chan struct{})
		hold := make(chan bool, 1)
		e.After(func(_ context.Context, call, what string) error {
			if call == "Image" && what == "b" { // of the look at everything, which has seen a already
				select {
				case <-hold:
					<-held
				default:
				}
			}
			return nil
		})
		m.begin()
		found := make(chan error)
		hold <- true
		go func() { found <- m.Find(m.Context()) }()
		synctest.Wait()
		m.up("a")
		m.expect("a", envmgr.Ready)
		close(held)
		if err := <-found; err != nil {
			m.Error(err)
		}
		m.expect("a", envmgr.Ready)
		if m.Calls("CreateService") != 1 {
			m.Errorf("it was made %d times", m.Calls("CreateService"))
		}
	})
}

// TestDownWhilePulling: who is not wanted any more does not wait for an image, and those
// that wait for others' images say so.
func TestDownWhilePulling(t *testing.T) {
	modelled(t, []string{"a", "b", "c", "d"}, func(m *model) {
		e := m.Engine
		clear(m.Images)
		e.Before(func(ctx context.Context, call, _ string) error {
			if call == "Pull" {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
		m.begin()
		m.up("a", "b", "c", "d")
		synctest.Wait()
		queued := 0
		for _, one := range m.sup.Snapshot().Services {
			if strings.Contains(one.Reason, "other images") {
				queued++
			}
		}
		if queued != 1 {
			m.Errorf("it stands so:%s", words(m.sup.Snapshot()))
		}
		m.down("a", "b", "c", "d")
		m.expect("a", envmgr.Stopped)
		m.expect("d", envmgr.Stopped)
		// One of which nothing comes is given up after a while, with a reason.
		m.up("a")
		pass(4 * time.Minute)
		if one := m.expect("a", envmgr.Pulling); !strings.Contains(one.Reason, "nothing has come of a") || !one.Settled() {
			m.Errorf("it says %q", one.Reason)
		}
	})
}

// TestDownWhileStarting: what is needed is not ended before who is just being started.
func TestDownWhileStarting(t *testing.T) {
	modelled(t, []string{"a", "b<a"}, func(m *model) {
		e := m.Engine
		gate, open := once("CreateService", "b")
		e.Before(gate)
		m.begin()
		m.up("b")
		m.expect("b", envmgr.Creating)
		m.down("a")
		one := m.expect("a", envmgr.Stopping)
		if m.Calls("Stop") > 0 || !strings.Contains(one.Reason, "waits for b") {
			m.Errorf("it was ended; it says %q", one.Reason)
		}
		open()
		m.expect("a", envmgr.Stopped)
		m.expect("b", envmgr.Stopped)
	})
}

// TestLookThatHangs: a look has an end, and one that has failed is not the last for half a
// minute.
func TestLookThatHangs(t *testing.T) {
	modelled(t, []string{"a"}, func(m *model) {
		e := m.Engine
		var broken atomic.Bool
		e.Before(func(ctx context.Context, call, _ string) error {
			if call == "InspectService" && broken.Swap(false) {
				<-ctx.Done()
				return fmt.Errorf("%w: %w", docker.ErrAway, ctx.Err())
			}
			return nil
		})
		m.begin()
		m.up("a")
		m.expect("a", envmgr.Ready)
		broken.Store(true)
		m.Die("a", 1)
		pass(40 * time.Second)
		m.expect("a", envmgr.Ready)
		if m.Calls("Start") != 2 {
			m.Errorf("it was started %d times", m.Calls("Start"))
		}
	})
}

// TestLookThatFailsAfterAnAct: what was seen before the act is not acted on.
func TestLookThatFailsAfterAnAct(t *testing.T) {
	modelled(t, []string{"a"}, func(m *model) {
		e := m.Engine
		var failed atomic.Bool
		e.Before(func(_ context.Context, call, _ string) error {
			if c, _ := e.Of("a"); call == "InspectService" && c.Phase == docker.Running && !failed.Swap(true) {
				return docker.ErrAway
			}
			return nil
		})
		m.begin()
		m.up("a")
		pass(5 * time.Second)
		m.expect("a", envmgr.Ready)
		if m.Calls("CreateService") != 1 {
			m.Errorf("it was made %d times", m.Calls("CreateService"))
		}
	})
}

// TestLate: whoever waits for a start is told after a while that it is to be waited for no
// longer, and why; so are those that wait for that one, and nothing is given up.
func TestLate(t *testing.T) {
	modelled(t, []string{"a", "b<a"}, func(m *model) {
		e := m.Engine
		e.Before(func(_ context.Context, call, _ string) error {
			if call == "Start" {
				return fmt.Errorf("%w: 6379", docker.ErrPortTaken)
			}
			return nil
		})
		m.begin()
		m.up("b")
		pass(30 * time.Second)
		if m.status("a").Settled() || m.status("b").Settled() {
			m.Error("it is given up too early")
		}
		pass(31 * time.Second)
		synctest.Wait()
		for _, name := range []string{"a", "b"} {
			if one := m.status(name); !one.Settled() || one.Reason == "" || one.Ready() {
				m.Errorf("it stands so:%s", words(m.sup.Snapshot()))
			}
		}
		e.Before(nil)
		pass(20 * time.Second)
		m.expect("b", envmgr.Ready)
		if m.status("a").Late {
			m.Error("it is late, and ready")
		}
	})
}

// TestLateWithoutAnEngine: an engine that is away for long is told of as well, and what
// nobody wants has not failed for it.
func TestLateWithoutAnEngine(t *testing.T) {
	modelled(t, []string{"a", "b"}, func(m *model) {
		m.begin()
		m.Lose(docker.ErrAway)
		m.up("a")
		m.down("b")
		pass(61 * time.Second)
		if one := m.expect("a", envmgr.EngineAway); !one.Settled() {
			m.Error("who waits for it waits for ever")
		}
		if one := m.expect("b", envmgr.EngineAway); one.Hopeless {
			m.Error("it has failed, and nobody wants it")
		}
		if err := m.Find(m.Context()); err != nil {
			m.Error(err)
		}
		m.expect("a", envmgr.Ready)
	})
}

// TestNameOfAnotherIsTold: whoever waits for a start is told at once of a name that is
// somebody else's.
func TestNameOfAnotherIsTold(t *testing.T) {
	modelled(t, []string{"a", "b<a"}, func(m *model) {
		e := m.Engine
		c := running("a")
		c.Labels = nil
		e.Put(c)
		m.begin()
		m.up("b")
		synctest.Wait()
		if a, b := m.status("a"), m.status("b"); !a.Settled() || !b.Settled() || !strings.Contains(b.Reason, "not ours") {
			m.Errorf("it stands so:%s", words(m.sup.Snapshot()))
		}
	})
}

// TestRestartingEngine: what the engine starts again over and over is told of as such, and
// is neither started nor ended.
func TestRestartingEngine(t *testing.T) {
	modelled(t, []string{"a", "b<a"}, func(m *model) {
		e := m.Engine
		c := running("a")
		c.Restarts = true
		c.Labels = map[string]string{"com.docker.compose.service": "a"}
		e.Put(c)
		m.begin()
		m.up("b")
		m.expect("b", envmgr.Ready)
		for range 10 {
			m.Change("a", func(c *docker.Service) { c.Restarting, c.ExitCode, c.Finished = true, 3, time.Now() })
			m.Tell("a", "die")
			if one := m.expect("a", envmgr.BackingOff); !strings.Contains(one.Reason, "exit code 3") {
				m.Errorf("it says %q", one.Reason)
			}
			pass(5 * time.Second)
			m.Change("a", func(c *docker.Service) { c.Restarting, c.Started = false, time.Now() })
			m.Tell("a", "start")
			synctest.Wait()
		}
		one := m.expect("a", envmgr.Degraded)
		if !one.Hopeless || one.Ends < 8 || m.Calls("Start") != 1 || m.Calls("Stop") != 0 { // that of b
			m.Errorf("it is %+v, and was started %d and ended %d times", one, m.Calls("Start"), m.Calls("Stop"))
		}
		m.Change("a", func(c *docker.Service) { c.Restarting = true })
		m.Tell("a", "die")
		m.down("a")
		m.expect("a", envmgr.Stopped)
		if m.Calls("Stop") != 2 {
			m.Error("the engine starts it again")
		}
	})
}
