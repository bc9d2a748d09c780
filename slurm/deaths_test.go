package slurm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/slurmtest"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

const patience = 2 * time.Minute

// daemon is a backend that is watched, and the least that a caller of it keeps.
type daemon struct {
	*Backend
	t     testing.TB
	heard map[task.Ref]time.Time // when the end was reported
	mu    sync.Mutex
	tasks map[task.Ref]task.Task
	moved chan struct{}
	path  string // of programs, for tasks
}

func (p *place) daemon(t testing.TB) *daemon {
	t.Helper()
	d := &daemon{Backend: p.open(t), t: t, tasks: map[task.Ref]task.Task{}, heard: map[task.Ref]time.Time{}, moved: make(chan struct{}), path: "/usr/bin:/bin"}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Watch(ctx, nil, d.sink) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *daemon) sink(changes []task.Change) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range changes {
		ref := task.Ref{Seq: c.Seq, Attempt: c.Event.Attempt}
		n, err := task.Apply(d.tasks[ref], c.Event)
		switch {
		case err == nil:
			d.tasks[ref] = n
			if over(n) {
				d.heard[ref] = time.Now()
			}
		case !errors.Is(err, task.ErrStale):
			d.t.Errorf("task %d: %v", c.Seq, err)
		}
	}
	close(d.moved)
	d.moved = make(chan struct{})
}

// launch hands a task over.
func (d *daemon) launch(seq task.Seq, spec task.Spec) task.Ref {
	d.t.Helper()
	spec.ID = fmt.Sprint("t", seq)
	if spec.Class == "" {
		spec.Class = "c"
	}
	spec.Dir, spec.Env = "/", []string{"PATH=" + d.path}
	t, err := task.Apply(task.New(seq, &spec, 0), task.Event{Kind: task.EventPlaced, At: task.At(time.Now()), Attempt: 1, Backend: Name})
	if err != nil {
		d.t.Fatal(err)
	}
	d.mu.Lock()
	d.tasks[t.Ref()] = t
	d.mu.Unlock()
	if err := d.Launch(d.t.Context(), []task.Task{t}); err != nil {
		d.t.Fatal(err)
	}
	return t.Ref()
}

// await waits until a task is as wanted.
func (d *daemon) await(ref task.Ref, what string, ok func(task.Task) bool) task.Task {
	d.t.Helper()
	late := time.After(patience)
	for {
		d.mu.Lock()
		t, moved := d.tasks[ref], d.moved
		d.mu.Unlock()
		if ok(t) {
			return t
		}
		select {
		case <-moved:
		case <-late:
			d.t.Fatalf("task %d is not %s after %s: %s, %+v", ref.Seq, what, patience, t.State(), t.Status())
		}
	}
}

func (d *daemon) running(ref task.Ref) task.Task {
	return d.await(ref, "running", func(t task.Task) bool { return t.State() == task.Running || over(t) })
}

// end returns how the attempt ended, which another may follow.
func (d *daemon) end(ref task.Ref) (task.State, task.Outcome) {
	d.t.Helper()
	t := d.await(ref, "over", over)
	if past := t.Status().Past; t.Attempt() > ref.Attempt {
		return past[0].State, past[0].Outcome
	}
	return t.State(), t.Status().Outcome
}

func over(t task.Task) bool { return t.State().Terminal() || t.Attempt() > 1 }

func (d *daemon) wantEnd(ref task.Ref, state task.State, class task.FailureClass, words string) {
	d.t.Helper()
	s, o := d.end(ref)
	if s != state || o.Class != class || !strings.Contains(o.Message, words) {
		d.t.Errorf("it is %s, %+v; want %s, %s, %q", s, o, state, class, words)
	}
}

func sh(line string) task.Spec { return task.Spec{Argv: []string{"/bin/sh", "-c", line}} }

func jobOf(t task.Task) string {
	var h handle
	if err := json.Unmarshal(t.Status().Handle, &h); err != nil {
		return err.Error()
	}
	return h.Job
}

// TestStruck: what others do to a job is told apart.
func TestStruck(t *testing.T) {
	t.Parallel()
	c := slurmtest.Start(t, slurmtest.Config{})
	p := newPlace(t, c)
	p.opts.Site = func(class string) Site {
		switch class {
		case "short":
			return Site{Walltime: time.Minute}
		case "scavenge":
			return Site{Partition: "scavenge", Directives: []string{"--exclusive", "--nodes=4"}}
		case "nowhere":
			return Site{Partition: "nowhere"}
		}
		return Site{}
	}
	d := p.daemon(t)
	limit := sh("sleep 300")
	limit.Class = "short"
	limited := d.launch(1, limit)
	job := jobOf(d.running(limited))
	if told := c.Command(t, "squeue", "--noheader", "--jobs="+job, "--format=%l"); told != "1:00" {
		t.Errorf("Slurm was told a limit of %s", told)
	}
	// Slurm counts in minutes; so that its limit strikes now, the minute is made shorter.
	c.Command(t, "scontrol", "update", "JobId="+job, "EndTime=now+1")

	killed := d.launch(2, sh("sleep 300"))
	c.Command(t, "scancel", jobOf(d.running(killed)))
	d.wantEnd(killed, task.Failed, task.UserError, "was cancelled in Slurm, not by this scheduler")

	held := d.launch(3, task.Spec{Argv: []string{"true"}, Resources: task.Resources{GPUs: 17}})
	d.wantEnd(held, task.Failed, task.UserError, "Slurm refused the job")

	nowhere := sh("true")
	nowhere.Class = "nowhere"
	d.wantEnd(d.launch(4, nowhere), task.Failed, task.UserError, "nvalid partition")

	// Its script is killed before it can note anything.
	mute := d.launch(5, sh("sleep 300"))
	id, err := strconv.Atoi(jobOf(d.running(mute)))
	if err != nil {
		t.Fatal(err)
	}
	c.Command(t, "pkill", "-KILL", "-f", fmt.Sprintf("%s/spool.n[0-9]*/job%05d/slurm_script", c.Dir(), id))
	d.wantEnd(mute, task.Lost, task.Vanished, "left no record of its end")

	d.wantEnd(limited, task.Failed, task.Timeout, "Slurm ended job "+job+" at its time limit")
	urgent := sh("sleep 300")
	urgent.Class = "scavenge"
	victim := d.launch(6, urgent)
	d.running(victim)
	c.Command(t, "sbatch", "--partition=urgent", "--exclusive", "--nodes=4", "--output=/dev/null", "--wrap=true")
	d.wantEnd(victim, task.Failed, task.Preempted, "to a job with more right to them")
}

// TestControllerAway: nothing fails while the controller is dead, and it is said.
func TestControllerAway(t *testing.T) {
	t.Parallel()
	c := slurmtest.Start(t, slurmtest.Config{Nodes: 1})
	p := newPlace(t, c)
	d := p.daemon(t)
	first := d.launch(1, sh("sleep 8; echo done"))
	d.running(first)
	if err := c.Kill("slurmctld"); err != nil {
		t.Fatal(err)
	}
	second := d.launch(2, sh("true"))
	// The end of one that ran is noticed without the controller.
	d.wantEnd(first, task.Succeeded, task.NoFailure, "")
	if err := c.Revive("slurmctld"); err != nil {
		t.Fatal(err)
	}
	d.wantEnd(second, task.Succeeded, task.NoFailure, "")
	if down := d.Down(); down != "" {
		t.Errorf("it is down: %s", down)
	}
}

// TestNodeDies: the node's slurmd and everything on it are killed.
func TestNodeDies(t *testing.T) {
	t.Parallel()
	c := slurmtest.Start(t, slurmtest.Config{Nodes: 2, Settings: "SlurmdTimeout=5"})
	p := newPlace(t, c)
	d := p.daemon(t)
	ref := d.launch(1, sh("sleep 600"))
	d.running(ref)
	d.mu.Lock()
	node := d.jobs[ref].record.Node
	d.mu.Unlock()
	if err := c.Kill(node); err != nil {
		t.Fatal(err)
	}
	d.wantEnd(ref, task.Lost, task.Vanished, "failed")
}
