package process

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// echo ends a built-in task: its payload is its result. It needs no process, so
// nothing of it can be left anywhere, and doing it twice is doing it once.
func (b *Backend) echo(t task.Task) {
	at := task.At(b.opts.Now())
	ev := func(k task.EventKind) task.Change {
		return task.Change{Seq: t.Seq, Event: task.Event{Kind: k, At: at, Attempt: t.Attempt()}}
	}
	launched := ev(task.EventLaunched)
	launched.Event.Handle = handle{Host: b.id.Name, Machine: b.id.Machine, Boot: b.id.Boot, PIDs: b.id.PIDs}.encode()
	exited := ev(task.EventExited)
	exited.Event.Unprompted = true
	exited.Event.Outcome.Node = b.id.Name
	exited.Result = echoed(t.Spec.Payload)
	b.say(launched, ev(task.EventStarted), exited)
}

// refuse ends an attempt that cannot be handed over because of itself, such as
// when its files cannot be made. It is told like an echo.
func (b *Backend) refuse(t task.Task, err error) {
	b.say(task.Change{Seq: t.Seq, Event: task.Event{
		Kind: task.EventNotStarted, At: task.At(b.opts.Now()), Attempt: t.Attempt(), Class: task.CouldNotStart,
		Text: strings.ToValidUTF8(fmt.Sprintf("cannot be prepared on %s: %v", b.id.Name, err), "?"),
	}})
}

// say has changes reported that the supervisor knows nothing about.
func (b *Backend) say(changes ...task.Change) {
	b.mu.Lock()
	b.echoes = append(b.echoes, changes...)
	b.mu.Unlock()
	b.wake.wake()
}

// echoed is the payload with "echo": true in it.
func echoed(payload json.RawMessage) task.Result {
	fields := map[string]json.RawMessage{}
	if len(payload) > 0 && json.Unmarshal(payload, &fields) != nil {
		fields = map[string]json.RawMessage{"payload": payload}
	}
	fields["echo"] = json.RawMessage("true")
	out, err := json.Marshal(fields)
	if err != nil {
		return task.Result(`{"echo":true}`)
	}
	return out
}
