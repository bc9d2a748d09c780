package process

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

func (p *place) impatient(queue string) Options {
	opts := p.options(queue)
	opts.PingEvery, opts.Silence = 20*time.Millisecond, 500*time.Millisecond
	return opts
}

// A supervisor that hangs on an idle connection is noticed, with its pid and
// since when; nothing is sent to it, and all is well when it goes on.
func TestSilentSupervisorIsNoticed(t *testing.T) {
	p := newPlace(t)
	d := p.daemon(t, p.impatient("q"))
	d.connected()
	before, err := d.Backend.connected()
	must(t, err)
	pid := p.runningSupervisor(t)
	must(t, unix.Kill(pid, unix.SIGSTOP))
	t.Cleanup(func() { _ = unix.Kill(pid, unix.SIGCONT) })
	poll(t, "the notice", func() bool { return d.Down() != "" })
	want := fmt.Sprintf("the process supervisor (pid %d) does not answer since ", pid)
	if got := d.Down(); !strings.HasPrefix(got, want) || !strings.Contains(got, "kill -CONT") {
		t.Fatalf("down: %s", got)
	}
	poll(t, "the passing of time", func() bool { return strings.HasPrefix(d.Down(), want+"2s") })
	tk := assigned(t, 1, argv("true"))
	d.launch(tk)
	if ss, err := d.Backend.connected(); err == nil {
		t.Fatalf("it is still handed to %v", ss)
	}
	must(t, unix.Kill(pid, unix.SIGCONT))
	if ev := d.end(tk.Ref()).Event; ev.Kind != task.EventExited {
		t.Fatalf("event %+v", ev)
	}
	after, err := d.Backend.connected()
	must(t, err)
	if d.Down() != "" || after != before {
		t.Fatalf("down %q; the same connection: %v", d.Down(), after == before)
	}
}

// A supervisor that has nothing to tell is not silent, and one whose reports
// nobody takes is not either.
func TestQuietIsNotSilent(t *testing.T) {
	p := newPlace(t)
	b, err := New(p.impatient("q"))
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done, held, free := make(chan struct{}), make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(done)
		_ = b.Watch(ctx, nil, func(cs []task.Change) {
			if len(cs) > 0 {
				select {
				case held <- struct{}{}:
				default:
				}
				<-free
			}
		})
	}()
	defer func() { cancel(); <-done }()
	<-b.Connected()
	quiet := func(why string) {
		late := time.After(3 * b.opts.Silence)
		for {
			select {
			case <-late:
				return
			case <-time.After(b.opts.PingEvery):
				if down := b.Down(); down != "" {
					t.Fatalf("%s: %s", why, down)
				}
			}
		}
	}
	quiet("with nothing to tell")
	must(t, b.Launch(t.Context(), []task.Task{assigned(t, 1, argv("true"))}))
	<-held
	quiet("while its reports wait")
	close(free)
	quiet("after they were taken")
}

// An older client agrees with the supervisor on its own version.
func TestOlderClient(t *testing.T) {
	p := newPlace(t)
	p.daemon(t, p.options("q")).connected()
	h := &supervisorpb.Hello{MinVersion: minVersion, MaxVersion: minVersion, QueueId: "x", SpoolDir: []byte(filepath.Join(p.dir, "x"))}
	ss, err := openSession(filepath.Join(p.runtime(), socketName), h)
	must(t, err)
	defer ss.nc.Close()
	if ss.version != minVersion || ss.pid != p.supervisorPid(t) {
		t.Fatalf("version %d, pid %d", ss.version, ss.pid)
	}
}
