package container

import (
	"encoding/json"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/containerinit"
	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// handle is what task.Status.Handle holds. The name says all; the rest is for people,
// and for those who come with later releases. Versions only add fields.
type handle struct {
	Version   int    `json:"v"`
	Container string `json:"container"` // its id
	Name      string `json:"name"`
	Engine    string `json:"engine"` // its id
	Host      string `json:"host"`   // where the engine was called
}

// tell reports about an attempt.
func (r *run) tell(changes ...task.Change) {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	for i := range changes {
		changes[i].Seq, changes[i].Event.Attempt = r.ref.Seq, r.ref.Attempt
	}
	r.history = append(r.history, changes...)
	r.b.out = append(r.b.out, changes...)
	r.b.ring()
}

// tellLaunched reports that there is a container.
func (r *run) tellLaunched(id string) {
	r.id = id
	if r.told >= toldLaunched {
		return
	}
	r.told = toldLaunched
	h, err := json.Marshal(handle{Version: 1, Container: id, Name: r.name, Engine: r.b.engineNow().ID, Host: r.b.engine.Host()})
	if err != nil {
		panic("marshal handle: " + err.Error()) // plain fields cannot fail
	}
	r.tell(task.Change{Event: task.Event{Kind: task.EventLaunched, At: r.now(), Handle: h}})
}

// tellStarted reports that the container has run.
func (r *run) tellStarted(c docker.Container) {
	r.begun = true
	r.tellLaunched(c.ID)
	if r.told >= toldStarted {
		return
	}
	if c.Started.IsZero() {
		c.Started = r.b.opts.Now()
	}
	r.told, r.since = toldStarted, c.Started
	if r.plain {
		r.b.initUseless()
	}
	r.tell(task.Change{Event: task.Event{Kind: task.EventStarted, At: task.At(c.Started)}})
}

// tellStopping reports that the time limit struck. That somebody else wants the end is
// known to who told us.
func (r *run) tellStopping() {
	if r.told >= toldStopping {
		return
	}
	r.told = toldStopping
	r.tell(task.Change{Event: task.Event{Kind: task.EventStopping, At: task.At(r.signal.At), Cause: r.signal.Cause}})
}

// end reports the end.
func (r *run) end(c task.Change) bool {
	r.tell(c)
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	r.ended = true
	return true
}

// notStarted reports that it could not be started. What has an init must not be started
// after that, and may have been before.
func (r *run) notStarted(class task.FailureClass, text string) (wait time.Duration, done, again bool) {
	if r.kept {
		r.half.why = text
		switch ok, err := containerinit.Withdraw(r.b.record(r.ref)); {
		case err != nil:
			r.warn(cannotWithdraw, err)
			return lookAgain, false, false
		case !ok:
			return 0, false, true
		}
		r.endOrphans(r.id) // a start that was broken off may have left something that waits for ever
	}
	r.b.opts.Logger.Warn("a container could not be started", "task", r.ref.Seq, "attempt", r.ref.Attempt, "reason", text)
	return 0, r.end(task.Change{Event: task.Event{Kind: task.EventNotStarted, At: r.now(), Class: class, Text: text, Outcome: task.Outcome{Node: r.node()}}}), false
}

// warn says once what keeps an attempt from going on.
func (r *run) warn(what string, err error) {
	if !r.warned[what] {
		r.warned[what] = true
		r.b.opts.Logger.Warn(what, "task", r.ref.Seq, "attempt", r.ref.Attempt, "error", err) //nolint:sloglint // a literal of the caller
	}
}

// node is where containers run.
func (r *run) node() string {
	if is := r.b.engineNow(); !r.b.engine.Local() && is.Name != "" {
		return is.Name
	}
	return r.b.node
}
