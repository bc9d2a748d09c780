package process

import (
	"fmt"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// snapshot is which attempts the supervisor has told of since it was reached;
// nil once it has told of all.
type snapshot map[task.Ref]bool

func (s snapshot) note(reports []*supervisorpb.Report) {
	if s == nil {
		return
	}
	for _, r := range reports {
		s[refOf(r.GetName())] = true
	}
}

// missing says what became of the attempts that the supervisor should know and
// does not.
func (b *Backend) missing(ss *session, told snapshot) []task.Change {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []task.Change
	for ref, t := range b.active {
		if told[ref] || !begun(t) || b.unread.report(ref) != nil {
			delete(b.active, ref)
			continue
		}
		c := b.unheardOf(ss, ref, t)
		if c.Event.Kind == task.EventVanished {
			delete(b.active, ref) // of the others more may be known with the next connection
			b.forgetRef(ref)
		}
		out = append(out, c)
	}
	// Those that an earlier supervisor told of, and whose journal is gone with it.
	for ref, before := range b.told {
		if told[ref] || before == toldEnd || before == toldNothing || b.unread.report(ref) != nil || b.distant[ref] != nil {
			continue // of the last but one, the end is known, and told when its result can be read
		}
		if b.procs[ref].lives(b.id) {
			out = append(out, b.notFollowed(ss, ref))
			continue
		}
		b.forgetRef(ref)
		out = append(out, b.lost(ref, ss.lostText()))
	}
	return out
}

// begun says whether an attempt was reported to have begun. One that was not is
// the engine's to hand over again, or to stop again if it was cancelled meanwhile:
// the supervisor answers that, and sees to it that it never begins.
func begun(t task.Task) bool {
	return t.State() >= task.Starting && (t.State() != task.Stopping || len(t.Status().Handle) > 0)
}

// forgetRef drops what is only needed while an attempt has not ended, of which the end
// is told now. The
// backend's mutex is held.
func (b *Backend) forgetRef(ref task.Ref) {
	b.told[ref] = toldEnd
	delete(b.procs, ref)
	delete(b.stops, ref)
}

// unheardOf says what became of an active attempt of which the supervisor knows
// nothing. It is lost only if it cannot run any more.
func (b *Backend) unheardOf(ss *session, ref task.Ref, t task.Task) task.Change {
	h, ok := decodeHandle(t.Status().Handle)
	if !ok {
		return b.lost(ref, ss.lostText())
	}
	switch {
	case h.where(b.id) == beforeBoot:
		return b.lost(ref, fmt.Sprintf("ran on %s when the machine was restarted", h.Host))
	case b.procs[ref].lives(b.id):
		return b.notFollowed(ss, ref)
	default:
		return b.lost(ref, ss.lostText())
	}
}

// far says in words that an attempt runs where nothing can be seen from here.
func (h handle) far(here string) string {
	if h.Host == here {
		here = "the present one"
	}
	return fmt.Sprintf("runs on host %s, on another machine or in another container than %s", h.Host, here)
}

// notFollowed is for an attempt that runs, and that an older supervisor cannot
// be told of.
func (b *Backend) notFollowed(ss *session, ref task.Ref) task.Change {
	return b.noted(ref, fmt.Sprintf("runs as pid %d, but the process supervisor (pid %d) does not follow it: "+
		"end that one with kill %d, and a new one does", b.procs[ref].handle.PID, ss.pid, ss.pid))
}

func (b *Backend) noted(ref task.Ref, text string) task.Change {
	return b.word(ref, task.Event{Kind: task.EventNoted, Text: text})
}

func (b *Backend) lost(ref task.Ref, text string) task.Change {
	return b.word(ref, task.Event{Kind: task.EventVanished, Class: task.Vanished, Text: text})
}

// word is a change that no report of a supervisor says.
func (b *Backend) word(ref task.Ref, ev task.Event) task.Change {
	ev.At, ev.Attempt, ev.Text = task.At(b.opts.Now()), ref.Attempt, strings.ToValidUTF8(ev.Text, "?")
	return task.Change{Seq: ref.Seq, Event: ev}
}
