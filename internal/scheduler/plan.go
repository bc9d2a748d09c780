package scheduler

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// ReserveAfter is how long the first task in the line waits for room before
// smaller ones behind it may no longer take what becomes free. Without it a task
// that needs four CPUs would never start on a machine kept busy by tasks that
// need one.
const ReserveAfter = 2 * time.Minute

// Plan decides what starts now, and says of everything else why it waits.
func Plan(s Snapshot) Decision {
	p := NewExplainer(s)
	heads := slices.Clone(s.Heads)
	slices.SortStableFunc(heads, func(a, b Head) int {
		return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.Seq, b.Seq))
	})
	skipped := map[string]bool{}
	for _, h := range heads {
		// Once one of a shape waits, those behind it wait too: the order within a
		// shape is the order of the line.
		if !skipped[h.Shape] {
			before := p.decided()
			// What was decided waits no more, and may have taken the last room: those behind
			// it have their reasons still.
			skipped[h.Shape] = p.Offer(h) != More && p.decided() == before
		}
	}
	return p.decision
}

// Verdict is what a Planner answers to the offer of a head.
type Verdict uint8

// The verdicts.
const (
	More      Verdict = iota // it starts, or may be passed: offer the next of its shape in its turn
	Skip                     // it waits, and so does all of its shape
	SkipClass                // it waits, and so does all of its class
	Stop                     // nothing that is still to come can start
)

// Planner decides head by head, for a line that is too long to be looked at as a
// whole: whoever has the line offers its heads in order, skips the shapes of
// which one has to wait, and stops when nothing more can start. Like Plan it
// depends on what it is given and on nothing else. It gives no reasons.
type Planner struct {
	Snapshot
	line
	free     Usage // what is left of the capacity
	running  map[string]int
	on       map[string]int // by backend
	ahead    map[string]int
	uneven   int  // local tasks that hold more or less than one CPU, or are in a container
	here     bool // a local backend is up
	explain  bool // the reasons are wanted
	looked   bool // full is known
	full     bool // what Full says
	gpus     *gpuPlan
	passes   int  // how many heads others of their shape were let past
	passed   bool // the last one is among these
	decision Decision
}

// line is who waits for room on this machine.
type line struct {
	reserved *Head // the first, once it has waited long
	short    bool  // somebody does
}

// NewPlanner begins with the snapshot. Its Heads are not looked at.
func NewPlanner(s Snapshot) *Planner {
	p := &Planner{
		Snapshot: s,
		free:     free(s),
		running:  cloneCounts(s.Running),
		on:       cloneCounts(s.On),
		ahead:    cloneCounts(s.Ahead),
		uneven:   s.Uneven,
		decision: Decision{Waits: make(map[string]Wait)},
	}
	for _, b := range s.Backends {
		up := b.Down == ""
		p.here = p.here || up && b.Local
	}
	return p
}

// NewExplainer begins like NewPlanner, and gives the reason why a head that was
// offered waits.
func NewExplainer(s Snapshot) *Planner {
	p := NewPlanner(s)
	p.explain = true
	return p
}

// decided is how many heads do not wait any more.
func (p *Planner) decided() int { return len(p.decision.Place) + len(p.decision.Refuse) }

// Decision returns what was decided so far.
func (p *Planner) Decision() Decision { return p.decision }

// Offer places the next head of the line, or lets it wait.
func (p *Planner) Offer(h Head) Verdict {
	p.passed = false
	switch placed := p.consider(h); {
	case p.Full():
		return Stop
	case placed, p.passed:
		return More
	case p.shut(h.Class):
		return SkipClass
	default:
		return Skip
	}
}

// consider places the head, or refuses it for good, or notes why it waits.
func (p *Planner) consider(h Head) (done bool) {
	class, ok := p.Classes[h.Class]
	if !ok {
		p.wait(h, p.say("its class %s is not in the configuration; add [classes.%s] to it, or cancel the task", h.Class, h.Class))
		return false
	}
	if class.Paused != nil {
		p.wait(h, p.say("%v", pauseOf{class.Name, *class.Paused}))
		return false
	}
	if class.Shut != "" {
		p.wait(h, class.Shut)
		return false
	}
	backends, why := p.candidates(h, class)
	if why != "" {
		p.wait(h, why)
		return false
	}
	return p.consult(h, class, backends)
}

// consult asks the backends that can take the head one after the other. Whoever comes
// behind this machine gets it only when it has waited for room here, or there can be none.
func (p *Planner) consult(h Head, class Class, backends []Backend) (done bool) {
	var whys []string
	for i, b := range backends {
		switch image := imageOf(h, b); {
		case image.Bad:
			p.refuse(h, task.ImageTrouble, fmt.Sprintf("its image %s %s", h.Image, image.Why))
			return true
		case !image.Ready:
			p.wait(h, p.say("its image %s %s", h.Image, image.Why))
			return false
		}
		before, kept := p.line, p.kept()
		lease, why := p.room(h, class, b)
		if why == "" {
			p.place(h, b, lease)
			return true
		}
		whys = append(whys, why)
		if i+1 == len(backends) || p.atLimit(class) {
			break
		}
		if next := backends[i+1]; b.Local && !next.Local && !p.never(h) && p.patient(h, class) {
			whys = append(whys, p.say("if there is none by then, %s gets it at %s", next.Name, h.Since.Add(class.Patience).Time().Format(time.TimeOnly)))
			break
		}
		p.line = before // it does not stand in the way of others here
		p.keep(kept)
	}
	p.wait(h, strings.Join(whys, "; "))
	return false
}

// patient says that a task has still to wait for room on this machine, and notes until
// when.
func (p *Planner) patient(h Head, class Class) bool {
	until := h.Since.Add(class.Patience)
	if until <= p.Now {
		return false
	}
	if p.decision.Next == 0 || until < p.decision.Next {
		p.decision.Next = until
	}
	return true
}

// never says that this machine does not have what the task needs, busy or not.
func (p *Planner) never(h Head) bool {
	return h.Resources.CPU() > p.Capacity.CPUMilli || p.Capacity.MemBytes > 0 && h.Resources.MemBytes > p.Capacity.MemBytes || p.noGPUs(h)
}

// say makes a reason. Where nobody asked for reasons it only has to be one.
func (p *Planner) say(format string, args ...any) string {
	if !p.explain {
		return "it waits"
	}
	return fmt.Sprintf(format, args...)
}

// imageOf is how a backend stands with what the task needs.
func imageOf(h Head, b Backend) Image {
	if h.Image == "" || b.Images == nil {
		return Image{Ready: true}
	}
	image, asked := b.Images[h.Image]
	if !asked {
		image.Why = "is being looked for"
	}
	return image
}

func (p *Planner) refuse(h Head, class task.FailureClass, reason string) {
	p.decision.Refuse = append(p.decision.Refuse, Refusal{Seq: h.Seq, Attempt: h.Attempt, Class: class, Reason: reason})
}

func (p *Planner) wait(h Head, reason string) {
	if _, told := p.decision.Waits[h.Shape]; p.explain && !told { // the first of a shape speaks for it
		p.decision.Waits[h.Shape] = Wait{Seq: h.Seq, Reason: reason}
	}
}

// candidates are those of the task's or the class's backends that are able to take the
// task, the best first.
func (p *Planner) candidates(h Head, class Class) (out []Backend, why string) {
	names := h.Backends
	if len(names) == 0 {
		names = class.Backends
	}
	var whys []string
	for _, n := range names {
		b, ok := p.Backends[n]
		switch {
		case !ok:
			whys = append(whys, p.say("backend %s is not available on this host", n))
		case h.Image != "" && !b.Image:
			whys = append(whys, p.say("backend %s does not run container images", n))
		case h.Image == "" && !b.NoImage:
			whys = append(whys, p.say("backend %s needs a container image", n))
		case b.NoGPUs != "" && !h.Resources.GPURequest().None():
			whys = append(whys, p.say("backend %s gives no GPUs: %s", n, b.NoGPUs))
		case b.Down != "":
			whys = append(whys, p.say("backend %s is down: %s", n, b.Down))
		default:
			out = append(out, b)
		}
	}
	switch {
	case len(out) > 0:
		return out, ""
	case len(whys) == 0:
		return nil, p.say("class %s has no backend", class.Name)
	default:
		return nil, strings.Join(whys, "; ")
	}
}

// room says what the task would hold, or why there is no room for it.
func (p *Planner) room(h Head, class Class, b Backend) (task.Lease, string) {
	need := task.Lease{CPUMilli: h.Resources.CPU(), MemBytes: h.Resources.MemBytes}
	if p.atLimit(class) {
		return need, p.say("class %s is at its limit of %d at a time", class.Name, class.Parallel)
	}
	if b.Most > 0 && p.on[b.Name] >= b.Most {
		return need, p.say("backend %s has as many tasks as it may (%d)", b.Name, b.Most)
	}
	if !b.Local {
		return need, p.held(h, b)
	}
	if need.CPUMilli > p.Capacity.CPUMilli {
		return need, p.say("it needs %s; this machine has %s for tasks", cpus(need.CPUMilli), cpus(p.Capacity.CPUMilli))
	}
	if p.Capacity.MemBytes > 0 && need.MemBytes > p.Capacity.MemBytes {
		return need, p.say("it needs %d MiB of memory; this machine has %d MiB for tasks", need.MemBytes>>20, p.Capacity.MemBytes>>20)
	}
	if p.reserved != nil {
		return need, p.say("what becomes free is kept for task %s, which is first in the line and needs %s", p.reserved.ID, cpus(p.reserved.Resources.CPU()))
	}
	if why := p.mayHaveGPUs(h); why != "" {
		return need, why // and lets others have the CPUs
	}
	if p.fits(need) {
		p.giveGPUs(h, &need)
		return need, ""
	}
	if p.mayGoAhead(h, class, need) {
		need.Ahead = true
		return need, ""
	}
	p.short, p.looked = true, false
	if p.Now.Sub(h.Since) >= ReserveAfter {
		first := h
		p.reserved = &first
	}
	return need, p.fullText(need)
}

func (p *Planner) fits(need task.Lease) bool {
	return need.CPUMilli <= p.free.CPUMilli && (p.Capacity.MemBytes == 0 || need.MemBytes <= p.free.MemBytes)
}

// mayGoAhead says whether the task may be handed over before there is a slot for
// it. Only plain tasks of one CPU may, since they can take over the slot of any
// other, and only processes, of which there is somebody who starts one when another ends; and not while an earlier one waits for room, or it would wait for those
// ahead, too; and not beside tasks that hold more or less than one CPU, since
// whoever starts what is ahead counts slots and not CPUs.
func (p *Planner) mayGoAhead(h Head, class Class, need task.Lease) bool {
	plain := need.CPUMilli == 1000 && need.MemBytes == 0 && h.Image == "" && h.Resources.GPURequest().None()
	return plain && !p.short && p.uneven == 0 && p.roomAhead(class)
}

func (p *Planner) roomAhead(c Class) bool {
	return c.Parallel == 0 && p.ahead[c.Name] < c.AheadPerSlot*int(p.Capacity.CPUMilli/1000)
}

func (p *Planner) fullText(need task.Lease) string {
	if !p.explain {
		return p.say("")
	}
	used := p.Capacity.CPUMilli - p.free.CPUMilli
	if need.CPUMilli > p.free.CPUMilli {
		return p.say("it needs %s and waits for room: %s of %s are in use", cpus(need.CPUMilli), bareCPUs(used), cpus(p.Capacity.CPUMilli))
	}
	return p.say("it needs %d MiB of memory and waits for room: %d of %d MiB are in use",
		need.MemBytes>>20, (p.Capacity.MemBytes-p.free.MemBytes)>>20, p.Capacity.MemBytes>>20)
}

func (p *Planner) place(h Head, b Backend, lease task.Lease) {
	p.looked = false
	p.decision.Place = append(p.decision.Place, Placement{Seq: h.Seq, Attempt: h.Attempt, Backend: b.Name, Lease: lease})
	if lease.Ahead {
		p.ahead[h.Class]++
		return
	}
	p.running[h.Class]++
	p.on[b.Name]++
	if b.Local {
		if lease.CPUMilli != 1000 || h.Image != "" {
			p.uneven++
		}
		p.free.CPUMilli -= lease.CPUMilli
		p.free.MemBytes -= lease.MemBytes
	}
}

// free is what nobody holds. Tasks that were placed ahead take the next slots
// that become free before the engine hears of it, so those are taken already.
func free(s Snapshot) Usage {
	ahead := int64(0)
	for _, n := range s.Ahead {
		ahead += int64(n) * 1000
	}
	return Usage{
		CPUMilli: max(0, s.Capacity.CPUMilli-s.Used.CPUMilli-ahead),
		MemBytes: max(0, s.Capacity.MemBytes-s.Used.MemBytes),
	}
}

func cloneCounts(m map[string]int) map[string]int {
	out := make(map[string]int, len(m))
	maps.Copy(out, m)
	return out
}

// cpus and bareCPUs are thousandths of CPUs as people say them, with the word and
// without: "2.5 CPUs", "2.5".
type (
	cpus     int64
	bareCPUs int64
)

// String returns the number and the word.
func (c cpus) String() string {
	if c == 1000 {
		return "1 CPU"
	}
	return bareCPUs(c).String() + " CPUs"
}

// String returns the number.
func (c bareCPUs) String() string {
	if c%1000 == 0 {
		return strconv.FormatInt(int64(c)/1000, 10)
	}
	return fmt.Sprintf("%.1f", float64(c)/1000)
}
