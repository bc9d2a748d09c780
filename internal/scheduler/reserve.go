package scheduler

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/gpu"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// A task that needs several GPUs would never have them at once on a machine where
// others that need one keep coming. So the first in the line that has waited for
// ReserveAfter has devices kept for it: those that are free soonest. Others behind
// it in the line have them meanwhile only if they are sure to give them back
// before. Since nothing that is lent ends later than what was awaited anyway, the
// time at which the devices are there, once it is known, does not move away.

// lendSlack is what a task needs beside its limit: to be started, and to free its
// memory.
const lendSlack = 10 * time.Second

// keeping is what is kept, and for whom.
type keeping struct {
	head    Head
	devices []gpu.DeviceID
	until   task.Instant // when all of it is there; 0 = nobody knows
	endless []string     // tasks without a time limit that have some of it
}

// never is when a task ends that has no limit.
const never = task.Instant(math.MaxInt64)

// candidate is a device that the task could have, and from when on.
type candidate struct {
	v    *gpu.Verdict
	from task.Instant
	at   int // in the order of the verdicts
}

// keepFor sets devices aside for a task that cannot have them now. Where so many
// of them are out of order or in strange hands that it is not known how it could
// ever have them, nothing is.
func (g *gpuPlan) keepFor(h Head, now task.Instant) {
	r := h.Resources.GPURequest()
	n := r.Count()
	var best []candidate
	for _, list := range g.candidates(r, now) {
		if len(list) < n {
			continue
		}
		slices.SortStableFunc(list, func(a, b candidate) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.at, b.at)) })
		list = list[:n]
		if best == nil || cmp.Or(cmp.Compare(list[n-1].from, best[n-1].from), cmp.Compare(list[0].at, best[0].at)) < 0 {
			best = list
		}
	}
	if best == nil {
		return
	}
	ids := make([]gpu.DeviceID, n)
	for i, c := range best {
		ids[i] = c.v.ID
	}
	g.pool.Keep(ids)
	g.kept = &keeping{head: h, devices: ids}
	if last := best[n-1].from; last != never {
		g.kept.until = last
		return
	}
	for _, c := range best {
		for _, holder := range c.v.Holders {
			if _, known := g.Ends[holder]; !known && !slices.Contains(g.kept.endless, holder) {
				g.kept.endless = append(g.kept.endless, holder)
			}
		}
	}
}

// sortOf is what the devices of one task have in common.
type sortOf struct {
	model string
	bytes int64
}

// candidates are the devices that the task could have some time, by sort.
func (g *gpuPlan) candidates(r gpu.Request, now task.Instant) map[sortOf][]candidate {
	out := map[sortOf][]candidate{}
	for i := range g.Verdicts {
		v := &g.Verdicts[i]
		if v.Device == nil || !gpu.Suits(r, v) || r.Count() > 1 && v.NoPeers != "" || r.Bytes > v.Device.TotalBytes {
			continue
		}
		from, ok := g.from(v, now)
		if !ok {
			continue
		}
		s := sortOf{v.Model, v.Device.TotalBytes}
		out[s] = append(out[s], candidate{v, from, i})
	}
	return out
}

// from says when a device is free for sure; false if that depends on others than
// our tasks.
func (g *gpuPlan) from(v *gpu.Verdict, now task.Instant) (task.Instant, bool) {
	switch v.State {
	case gpu.Free, gpu.CoolingOff:
		return now, true
	case gpu.Held, gpu.Shared:
		at := now
		for _, holder := range v.Holders {
			end, known := g.Ends[holder]
			if !known {
				return never, true
			}
			at = max(at, end)
		}
		return at, true
	default:
		return 0, false
	}
}

// mayBorrow says whether a task is sure to give back in time what is kept.
func (g *gpuPlan) mayBorrow(h Head, now task.Instant) bool {
	k := g.kept
	return k == nil || h.Limit > 0 && k.until != 0 && now.Add(h.Limit+lendSlack) <= k.until
}

// keptText speaks of what is kept, to the task that it is kept for, or to another one.
type keptText struct {
	g     *gpuPlan
	other string // for whom it is kept; "" = for who asks
}

// String says for whom devices are kept, until when, and who may have them meanwhile.
func (t keptText) String() string {
	k := t.g.kept
	text := "; what becomes free is kept for "
	if t.other == "" {
		text += "it"
	} else {
		text += fmt.Sprintf("task %s, which needs %s", t.other, k.head.Resources.GPURequest())
	}
	switch {
	case k.until == 0:
		text += fmt.Sprintf(", and nobody knows until when, since %s no time limit", has(k.endless))
		if t.other == "" {
			text += "; until then nobody else gets it"
		}
	case t.other == "":
		text += fmt.Sprintf(", and all of it is there by %s", t.g.Asker.Clock(k.until.Time()))
	default:
		text += fmt.Sprintf("; until %s, when that one has all of it, others may have it if their own time limit (--timeout) ends before", t.g.Asker.Clock(k.until.Time()))
	}
	return text
}

// has is "task a has", "tasks a, b have".
func has(tasks []string) string {
	const most = 3
	switch {
	case len(tasks) == 1:
		return "task " + tasks[0] + " has"
	case len(tasks) > most:
		return fmt.Sprintf("tasks %s and %d more have", strings.Join(tasks[:most], ", "), len(tasks)-most)
	default:
		return "tasks " + strings.Join(tasks, ", ") + " have"
	}
}

// GivesBack says when a task that holds GPUs gives them back for sure; false if nobody
// knows.
func GivesBack(t task.Task, now task.Instant) (task.Instant, bool) {
	limit := t.Spec.EnforcedLimit()
	if limit == 0 {
		return 0, false
	}
	began := t.Status().StartedAt
	if began == 0 {
		began = now
	}
	return began.Add(limit + lendSlack), true
}
