package engine

import (
	"maps"

	"github.com/dspy-agent/dspy-agent/internal/scheduler"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// tally sums up what the active tasks hold, so that a round of scheduling need
// not look at each of them: a hundred thousand may be waiting inside Slurm.
type tally struct {
	used    scheduler.Usage
	running map[string]int         // by class, those placed ahead excepted
	on      map[string]int         // by backend, those placed ahead excepted
	ahead   map[string]int         // by class
	uneven  int                    // local ones that hold more or less than one CPU, or run in a container
	gpus    map[task.Seq]task.Task // local ones that hold GPUs
}

func newTally() tally {
	return tally{running: make(map[string]int), on: make(map[string]int), ahead: make(map[string]int), gpus: make(map[task.Seq]task.Task)}
}

func (y tally) clone() tally {
	return tally{used: y.used, uneven: y.uneven, running: maps.Clone(y.running), on: maps.Clone(y.on), ahead: maps.Clone(y.ahead), gpus: maps.Clone(y.gpus)}
}

// add counts the task in (sign 1) or out (sign -1). Only tasks on a local
// backend use the machine's capacity.
func (y *tally) add(t task.Task, local bool, sign int) {
	l := t.Status().Lease
	class := t.Spec.Class
	if l.Ahead {
		y.ahead[class] += sign
		return
	}
	y.running[class] += sign
	y.on[t.Status().Backend] += sign
	if local {
		if l.CPUMilli != 1000 || t.Spec.Image != "" {
			y.uneven += sign
		}
		y.used.CPUMilli += int64(sign) * l.CPUMilli
		y.used.MemBytes += int64(sign) * l.MemBytes
	}
	switch {
	case !local || len(l.GPUs) == 0:
	case sign > 0:
		y.gpus[t.Seq] = t
	default:
		delete(y.gpus, t.Seq)
	}
}

// aheads is how many tasks are placed ahead, in all classes.
func (y tally) aheads() int {
	n := 0
	for _, v := range y.ahead {
		n += v
	}
	return n
}

// overlay is the active tasks that a batch of changes touches, as they will be
// once it is committed, with the tally of all.
type overlay struct {
	tasks map[task.Seq]task.Task // a Task without Spec is no longer active
	tally tally
}

// simulate applies the changes to copies, so that what starts in the place of
// what ends shares its commit. task.Apply is a function, so the store will come
// to the same.
func (e *Engine) simulate(changes []task.Change) overlay {
	o := overlay{tasks: make(map[task.Seq]task.Task), tally: e.tally.clone()}
	for _, c := range changes {
		e.simulateOne(&o, c)
	}
	return o
}

func (e *Engine) simulateOne(o *overlay, c task.Change) {
	t, ok := o.tasks[c.Seq]
	if !ok {
		t, ok = e.active[c.Seq]
	}
	if !ok || t.Spec == nil {
		return
	}
	n, err := task.Apply(t, c.Event)
	if err != nil {
		return
	}
	o.tally.add(t, e.local(t), -1)
	if !n.State().Active() {
		o.tasks[c.Seq] = task.Task{}
		return
	}
	o.tally.add(n, e.local(n), +1)
	o.tasks[c.Seq] = n
}

func (e *Engine) local(t task.Task) bool { return e.backends[t.Status().Backend].Local }

// track takes one applied change into the table and the tally.
func (e *Engine) track(a task.Applied) {
	if old, ok := e.active[a.Task.Seq]; ok {
		e.tally.add(old, e.local(old), -1)
		delete(e.active, a.Task.Seq)
		e.gpusDirty = e.gpusDirty || len(old.Status().Lease.GPUs) > 0
	}
	if a.Task.State().Active() {
		e.tally.add(a.Task, e.local(a.Task), +1)
		e.active[a.Task.Seq] = a.Task
	}
}
