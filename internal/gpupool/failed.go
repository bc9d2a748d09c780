package gpupool

import (
	"maps"
	"slices"

	"github.com/dspy-agent/dspy-agent/gpu"
)

// tell tells of the devices that have failed since it did so last. It may wait for a
// disk, so it is called without the lock, for which the engine waits.
func (p *Pool) tell() {
	if p.o.Failed == nil {
		return
	}
	p.mu.Lock()
	p.forgetTold()
	due := p.untold()
	p.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(due)) {
		if err := p.o.Failed(id, due[id]); err != nil {
			p.o.Log.Warn("that a GPU has failed could not be told; will try again", "gpu", id, "error", err)
			continue
		}
		p.mu.Lock()
		p.told[id] = due[id].Since
		p.mu.Unlock()
		p.save(true)
	}
}

// untold are the failures that nobody was told of, with the lock held.
func (p *Pool) untold() map[gpu.DeviceID]gpu.Health {
	out := map[gpu.DeviceID]gpu.Health{}
	for id, r := range p.book.Devices {
		if r.Health.Failed() && !p.told[id].Equal(r.Health.Since) {
			out[id] = r.Health
		}
	}
	return out
}

// forgetTold forgets what was told of devices that are well again, with the lock held.
func (p *Pool) forgetTold() {
	for id, r := range p.book.Devices {
		if !r.Health.Failed() {
			delete(p.told, id)
		}
	}
}
