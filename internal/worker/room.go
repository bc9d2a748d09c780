package worker

import (
	"slices"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// room is what the worker has for tasks, and what of it is taken.
type room struct {
	cpu, mem, usedCPU, usedMem int64
	gpus                       []string // free ones
	uneven                     int      // attempts that are not plain
	countMem                   bool
}

func newRoom(o Options) room {
	return room{cpu: o.CPUMilli, mem: o.MemBytes, countMem: o.MemBytes > 0, gpus: slices.Clone(o.GPUs)}
}

// Plain attempts have one CPU and nothing else; they may take over the place of one that
// ends, without a word from us.
func Plain(t task.Task) bool {
	r := t.Spec.Resources
	return r.CPU() == 1000 && r.MemBytes == 0 && r.GPUs == 0
}

// begin takes room for an attempt. Up to ahead plain ones may wait for a place where they
// run.
func (r *room) begin(t task.Task, ahead int) (gpus []string, ok bool) {
	need := t.Spec.Resources
	switch {
	case r.usedCPU+need.CPU() > r.cpu && (!Plain(t) || r.uneven > 0 || r.usedCPU+need.CPU() > r.cpu+int64(ahead)*1000):
		return nil, false
	case r.countMem && r.usedMem+need.MemBytes > r.mem, need.GPUs > len(r.gpus):
		return nil, false
	}
	r.usedCPU += need.CPU()
	r.usedMem += need.MemBytes
	gpus, r.gpus = slices.Clone(r.gpus[:need.GPUs]), r.gpus[need.GPUs:]
	if !Plain(t) {
		r.uneven++
	}
	return gpus, true
}

// end gives it back.
func (r *room) end(t task.Task, gpus []string) {
	need := t.Spec.Resources
	r.usedCPU -= need.CPU()
	r.usedMem -= need.MemBytes
	r.gpus = append(r.gpus, gpus...)
	if !Plain(t) {
		r.uneven--
	}
}

const visible = "CUDA_VISIBLE_DEVICES="

// showGPUs lets a program see its GPUs. One that has none sees none, unless it says itself
// which it wants to see.
func showGPUs(env, gpus []string) []string {
	is := func(kv string) bool { return strings.HasPrefix(kv, visible) }
	if len(gpus) == 0 && slices.ContainsFunc(env, is) {
		return env
	}
	return append(slices.DeleteFunc(slices.Clone(env), is), visible+strings.Join(gpus, ","))
}
