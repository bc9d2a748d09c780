package container

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/containerinit"
	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// fake is an engine with one container at most. What it does is what a test says.
type fake struct {
	Engine

	mu      sync.Mutex
	is      docker.Container // Name is "" = there is none
	creates []docker.Spec
	starts  int
	kills   []string
	onStart func(*docker.Container)
	image   func(context.Context) error
}

func (*fake) Host() string { return "unix:///fake" }
func (*fake) Local() bool  { return true }

func (f *fake) Create(_ context.Context, s docker.Spec) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.is.Name != "" {
		return "", docker.ErrNameTaken
	}
	f.creates = append(f.creates, s)
	f.is = docker.Container{ID: fakeID, Name: s.Name, Labels: s.Labels, Phase: docker.Created, Created: time.Now()}
	return fakeID, nil
}

func (f *fake) Start(context.Context, string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.is.Name == "" {
		return docker.ErrNoContainer
	}
	f.starts++
	f.is.Phase, f.is.Started = docker.Running, time.Now()
	if f.onStart != nil {
		f.onStart(&f.is)
	}
	return nil
}

func (f *fake) Kill(_ context.Context, _, signal string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.is.Phase != docker.Running {
		return docker.ErrNotRunning
	}
	f.kills = append(f.kills, signal)
	return nil
}

func (f *fake) Remove(context.Context, string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.is = docker.Container{}
	return nil
}

func (f *fake) Inspect(context.Context, string) (docker.Container, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.is.Name == "" {
		return docker.Container{}, docker.ErrNoContainer
	}
	return f.is, nil
}

func (f *fake) Image(ctx context.Context, _ string) (docker.Image, error) {
	if f.image != nil {
		return docker.Image{}, f.image(ctx)
	}
	return docker.Image{Command: []string{"/bin/true"}}, nil
}

func (f *fake) Past(context.Context, string) ([]docker.Event, error) { return nil, nil }

func (f *fake) Changed(context.Context, string, string) (bool, error) { return false, nil }

func (f *fake) Logs(context.Context, string, docker.LogOptions, func(docker.Entry) error, func() error) error {
	return nil
}

// fakeID is the id of its container.
const fakeID = "0123456789abcdef"

// people are the processes of containers, by id.
type people struct {
	live map[string][]int
	got  []string // "pid signal"
}

func (p *people) of(id string) []int { return p.live[id] }
func (*people) first(pid int) bool   { return pid == 1000 }

func (p *people) signal(pid int, id string, sig unix.Signal) error {
	if slices.Contains(p.live[id], pid) {
		p.got = append(p.got, fmt.Sprintf("%d %s", pid, unix.SignalName(sig)))
	}
	return nil
}

// stage is one attempt at a fake engine, as a daemon finds it that begins, which is looked at
// by hand.
type stage struct {
	*run
	t  *testing.T
	e  *fake
	p  *people
	tk task.Task
}

// newStage makes one whose task is in a state. Its record is that of an attempt which was
// not claimed.
func newStage(t *testing.T, state task.State, spec task.Spec) *stage {
	t.Helper()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "init"), []byte("init"), 0o700))
	s := &stage{t: t, e: &fake{}, p: &people{live: map[string][]int{}}}
	b, err := New(Options{
		QueueID: "here", TasksDir: filepath.Join(dir, "tasks"), Engine: s.e, Init: filepath.Join(dir, "init"), UID: os.Getuid(), GID: os.Getgid(),
		Logger: slog.New(slog.NewTextHandler(logWriter{t, &sync.Mutex{}}, nil)),
	})
	must(t, err)
	b.is, b.procs = docker.Engine{Version: "any"}, s.p
	if spec.Argv == nil {
		spec = sh("true")
	}
	s.tk = assigned(t, 1, spec)
	h, err := json.Marshal(handle{Version: 1, Container: fakeID})
	must(t, err)
	if state >= task.Starting {
		s.apply(task.Event{Kind: task.EventLaunched, Handle: h})
	}
	if state >= task.Running {
		s.apply(task.Event{Kind: task.EventStarted})
	}
	s.run = newRun(b, s.tk)
	s.begun = state != task.Assigned
	must(t, s.prepare(t.Context(), s.tk))
	must(t, containerinit.Prepare(s.folder(), b.layout.LogPath(s.ref)))
	return s
}

func (s *stage) apply(e task.Event) {
	s.t.Helper()
	e.At, e.Attempt = task.At(time.Now()), 1
	var err error
	s.tk, err = task.Apply(s.tk, e)
	must(s.t, err)
}

func (s *stage) folder() string { return s.b.record(s.ref) }

// is puts its container at the engine, made with our init, in a phase.
func (s *stage) is(phase docker.Phase, code int) {
	labels := labelsOf("here", s.tk)
	labels[labelInit] = initVersion
	s.e.is = docker.Container{ID: fakeID, Name: s.name, Labels: labels, Phase: phase, ExitCode: code, Created: time.Now()}
	if phase != docker.Created {
		s.e.is.Started = time.Now()
	}
	if phase == docker.Exited {
		s.e.is.Finished = time.Now()
	}
}

// write puts a file into its record.
func (s *stage) write(name, text string) {
	s.t.Helper()
	must(s.t, os.WriteFile(filepath.Join(s.folder(), name), []byte(text), 0o600))
}

// claim makes its claim as an init does. What it returns has the lock let go.
func (s *stage) claim() (die func()) {
	s.t.Helper()
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	must(s.t, err)
	at, err := time.Now().MarshalText()
	must(s.t, err)
	s.write("claim.json", fmt.Sprintf(`{"v":1,"boot":%q,"at":%q}`, strings.TrimSpace(string(boot)), at))
	f, err := os.Open(filepath.Join(s.folder(), "claim.json"))
	must(s.t, err)
	must(s.t, unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB))
	die = sync.OnceFunc(func() { _ = f.Close() }) // nothing was written
	s.t.Cleanup(die)
	return die
}

func (s *stage) writeEnd(code int) {
	s.t.Helper()
	at, err := time.Now().MarshalText()
	must(s.t, err)
	s.write("end.json", fmt.Sprintf(`{"v":1,"code":%d,"at":%q}`, code, at))
}

// last is the last that was reported; zero if that is nothing.
func (s *stage) last() task.Event {
	if len(s.history) == 0 {
		return task.Event{}
	}
	return s.history[len(s.history)-1].Event
}

// look has it look until it sleeps, so many times.
func (s *stage) look(times int) (done bool) {
	for range times {
		if _, done = s.step(s.t.Context()); done {
			return true
		}
	}
	return false
}
