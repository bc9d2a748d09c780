package scheduler

import (
	"maps"
	"slices"

	"github.com/dspy-agent/dspy-agent/gpu"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// GPUs are this machine's GPUs as planning sees them.
type GPUs struct {
	Verdicts []gpu.Verdict
	Links    []gpu.Link
	Sharers  int // how many may share one
	// Down says why nothing is placed on any of them; "" = something may be.
	Down string
	// Old: they were looked at too long ago to place by. Whoever plans asks for
	// another look, and plans again when it is there.
	Old bool
	// Soon: what stands in the way may be over within seconds (nobody has looked
	// yet, or memory is about to be free).
	Soon bool
	// ByUUID: programs are told UUIDs; else indexes, which more of them understand.
	ByUUID bool
	// Ends says of tasks that hold some when they give them back for sure.
	Ends  map[string]task.Instant
	Asker gpu.Asker // for whom reasons are written
}

// gpuPlan is the GPUs while one plan gives them out.
type gpuPlan struct {
	GPUs
	pool *gpu.Pool
	kept *keeping
}

// none is what a Planner is told that nobody has told of GPUs.
var none = GPUs{Down: "nobody looks at the GPUs of this host"}

// gpusNow asks for the GPUs when the first task comes that needs one: as a rule
// none does.
func (p *Planner) gpusNow() *gpuPlan {
	if p.gpus == nil {
		g := none
		if p.GPUs != nil {
			g = p.GPUs()
		}
		g.Verdicts, g.Ends = slices.Clone(g.Verdicts), maps.Clone(g.Ends) // what the plan gives out is noted in them
		if g.Ends == nil {
			g.Ends = map[string]task.Instant{}
		}
		p.gpus = &gpuPlan{GPUs: g, pool: gpu.NewPool(g.Verdicts, g.Links, g.Sharers)}
	}
	return p.gpus
}

// mayHaveGPUs says why the task cannot have now what it needs of GPUs; "" = it
// can. Nothing is given out yet.
func (p *Planner) mayHaveGPUs(h Head) (why string) {
	r := h.Resources.GPURequest()
	if r.None() {
		return ""
	}
	g := p.gpusNow()
	p.decision.Soon = p.decision.Soon || g.Soon
	switch {
	case g.Down != "":
		return p.say("%s", downText{r, g.Down})
	case g.pool.Has(r, g.mayBorrow(h, p.Now)):
		if g.Old {
			p.decision.Look, p.decision.Soon = true, true
			if !p.explain { // whoever explains tells of what is known
				return p.say("")
			}
		}
		return ""
	}
	if g.kept != nil && p.passes < mostPasses && g.pool.Has(r, true) {
		p.passes, p.passed = p.passes+1, true // one with a shorter limit may have what this one may not
	}
	why = p.say("%v", whyOf{g, r})
	if g.kept == nil && p.Now.Sub(h.Since) >= ReserveAfter {
		if g.keepFor(h, p.Now); g.kept != nil {
			why = p.say("%s%v", why, keptText{g, ""})
		}
	}
	return why
}

// mostPasses bounds how many tasks a plan passes to find ones that may have what is kept
// for another.
const mostPasses = 500

// Kept says for which task each GPU is kept, as far as the line was offered.
func (p *Planner) Kept() map[gpu.DeviceID]string {
	k := p.kept()
	if k == nil {
		return nil
	}
	out := make(map[gpu.DeviceID]string, len(k.devices))
	for _, id := range k.devices {
		out[id] = k.head.ID
	}
	return out
}

// giveGPUs gives out what mayHaveGPUs has promised.
func (p *Planner) giveGPUs(h Head, lease *task.Lease) {
	r := h.Resources.GPURequest()
	if r.None() {
		return
	}
	g := p.gpus
	take := g.pool.Take
	if g.mayBorrow(h, p.Now) {
		take = g.pool.Borrow
	}
	ids, _ := take(r)
	if h.Limit > 0 {
		g.Ends[h.ID] = p.Now.Add(h.Limit + lendSlack)
	}
	devices := make([]*gpu.Device, 0, len(ids))
	for _, id := range ids {
		lease.GPUs = append(lease.GPUs, string(id))
		v := &g.Verdicts[slices.IndexFunc(g.Verdicts, func(v gpu.Verdict) bool { return v.ID == id })]
		v.Give(h.ID, r)
		devices = append(devices, v.Device)
	}
	lease.GPUMem = r.Bytes
	lease.CUDA = gpu.Visible(devices, g.ByUUID)
}

// downText and whyOf are reasons that are put into words when somebody asks.
type downText struct {
	r    gpu.Request
	down string
}

// String says what the task needs, and why nobody can have any.
func (d downText) String() string { return "it needs " + d.r.String() + ": " + d.down }

type whyOf struct {
	g *gpuPlan
	r gpu.Request
}

// String says what stands in the way.
func (w whyOf) String() string {
	text := w.g.Asker.Why(w.r, w.g.Verdicts, w.g.Sharers)
	if k := w.g.kept; k != nil {
		text += keptText{w.g, k.head.ID}.String()
	}
	return text
}

// noGPUs says that the task needs GPUs, and this machine has none to give.
func (p *Planner) noGPUs(h Head) bool {
	if h.Resources.GPURequest().None() {
		return false
	}
	g := p.gpusNow()
	return g.Down != "" && !g.Soon
}

// kept is for whom devices are kept free; keep sets it back.
func (p *Planner) kept() *keeping {
	if p.gpus == nil {
		return nil
	}
	return p.gpus.kept
}

func (p *Planner) keep(k *keeping) {
	if p.gpus == nil || p.gpus.kept == k {
		return
	}
	p.gpus.kept = k
	var ids []gpu.DeviceID
	if k != nil {
		ids = k.devices
	}
	p.gpus.pool.Keep(ids)
}
