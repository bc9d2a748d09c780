//go:build linux && cgo && (amd64 || arm64)

package nvml

import (
	"cmp"
	"slices"

	nv "github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/dspy-agent/dspy-agent/gpu"
)

// levels are NVML's numbers. go-nvml's TOPOLOGY_CPU is 0, where NVML has 40 for
// what it calls TOPOLOGY_NODE now, so it is left alone.
var levels = map[nv.GpuTopologyLevel]gpu.Level{
	nv.TOPOLOGY_INTERNAL: gpu.LevelBoard, nv.TOPOLOGY_SINGLE: gpu.LevelSwitch, nv.TOPOLOGY_MULTIPLE: gpu.LevelSwitches,
	nv.TOPOLOGY_HOSTBRIDGE: gpu.LevelHostBridge, nv.TOPOLOGY_NODE: gpu.LevelNode, nv.TOPOLOGY_SYSTEM: gpu.LevelSystem,
}

// topology asks how close the GPUs are to one another.
func (r *Reader) topology() []gpu.Link {
	if len(r.known) < 2 {
		return nil
	}
	wires := make([]wires, len(r.known))
	for i, d := range r.known {
		wires[i] = r.nvlinks(d)
	}
	var links []gpu.Link
	for i, a := range r.known {
		for j, b := range r.known[:i] {
			l := gpu.Link{A: min(a.facts.ID, b.facts.ID), B: max(a.facts.ID, b.facts.ID), Level: r.level(a, b)}
			l.NVLinks = min(wires[i].to[b.facts.PCI], wires[j].to[a.facts.PCI])
			if l.NVLinks == 0 && r.peers(a, b) {
				l.NVLinks = min(wires[i].active, wires[j].active) // through a switch
			}
			links = append(links, l)
		}
	}
	slices.SortFunc(links, compare)
	return links
}

func compare(a, b gpu.Link) int { return cmp.Or(cmp.Compare(a.A, b.A), cmp.Compare(a.B, b.B)) }

func (r *Reader) level(a, b *device) gpu.Level {
	var level gpu.Level
	r.call("nvmlDeviceGetTopologyCommonAncestor", a.facts.ID, func() nv.Return {
		n, ret := a.handle.GetTopologyCommonAncestor(b.handle)
		if ret == nv.SUCCESS {
			level = levels[n]
		}
		return ret
	})
	return level
}

// wires are a GPU's NVLinks that are up: all, and by who is at the other end.
type wires struct {
	active int
	to     map[string]int // by PCI address
}

func (r *Reader) nvlinks(d *device) wires {
	w := wires{to: map[string]int{}}
	for k := range nv.NVLINK_MAX_LINKS {
		var state nv.EnableState
		code := r.call("nvmlDeviceGetNvLinkState", d.facts.ID, func() (ret nv.Return) {
			state, ret = d.handle.GetNvLinkState(k)
			return ret
		})
		if code == gpu.NotSupported || code == gpu.FunctionNotFound || code.Lost() {
			break
		}
		if code != gpu.Success || state != nv.FEATURE_ENABLED {
			continue
		}
		w.active++
		r.call("nvmlDeviceGetNvLinkRemotePciInfo", d.facts.ID, func() nv.Return {
			info, ret := d.handle.GetNvLinkRemotePciInfo(k)
			if ret == nv.SUCCESS {
				w.to[address(info)]++
			}
			return ret
		})
	}
	return w
}

// peers says whether two GPUs reach each other over NVLink, by whatever way.
func (r *Reader) peers(a, b *device) bool {
	var status nv.GpuP2PStatus
	code := r.call("nvmlDeviceGetP2PStatus", a.facts.ID, func() (ret nv.Return) {
		status, ret = a.handle.GetP2PStatus(b.handle, nv.P2P_CAPS_INDEX_NVLINK)
		return ret
	})
	return code == gpu.Success && status == nv.P2P_STATUS_OK
}
