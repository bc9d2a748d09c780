package api

import (
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// waitDetails says in the detail of tasks of a listing what keeps those that would be placed
// in their turn. It is for one call, and asks the engine only where one of them waits.
type waitDetails struct {
	s      service
	paused map[string]task.Pause
	waits  map[task.Seq]string // of the first of each kind
	asked  bool
}

func (s service) waitDetails() *waitDetails {
	return &waitDetails{s: s, paused: s.opts.Pauser.Paused()}
}

// notePause says that its class is paused.
func (d *waitDetails) notePause(p *pb.TaskInfo) {
	if _, ok := d.paused[p.GetClass()]; ok && inLine(p) && p.GetDetail() == "" {
		p.Detail = "its class is paused"
	}
}

// inLine says whether a task would be placed in its turn.
func inLine(p *pb.TaskInfo) bool {
	return p.GetState() == task.Pending.String() && p.GetBlocked() == 0 && !p.GetCancelAsked() && p.GetHeld() == ""
}

// note says what there is to say.
func (d *waitDetails) note(p *pb.TaskInfo, t task.Task) error {
	if !inLine(p) || p.GetDetail() != "" {
		return nil
	}
	if lacks := d.s.lacks(t); lacks != "" {
		p.Detail = text(lacks)
		return nil
	}
	if d.notePause(p); p.GetDetail() != "" {
		return nil
	}
	if !d.asked {
		var err error
		if d.waits, err = d.s.opts.Mover.Waits(); err != nil {
			return err
		}
		d.asked = true
	}
	p.Detail = text(d.waits[t.Seq])
	return nil
}
