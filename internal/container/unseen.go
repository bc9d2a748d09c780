package container

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// An engine that is killed, or whose containerd has lost a container, may come back and
// find one dead whose end it has not seen. It gives it the exit code 255 then, which a
// program may end with as well. What tells the two apart is that an engine which sees an
// end says so in its events, with the exit code, and one that finds a dead container
// does not.

// unseenCode is what engines say of an end that they have not seen.
const unseenCode = 255

// deathPatience is how long the word about an end may come after the container shows it.
const deathPatience = time.Second

// witnessed returns the container with the exit code that its engine saw; false when
// none did.
func (r *run) witnessed(ctx context.Context, c docker.Container) (docker.Container, bool, error) {
	told := r.toldCode()
	switch {
	case r.sure:
		return c, true, nil
	case r.b.engineNow().Podman: // which writes ends down beside the program
		return c, !c.Finished.IsZero(), nil
	case r.prompted(c):
		return c, true, nil
	case c.ExitCode == 0 && told != nil && *told != 0 && *told != unseenCode:
		// Until 23.0 an engine killed at the moment after the end says 0 afterwards.
		c.ExitCode = *told
		return c, true, nil
	case c.ExitCode != unseenCode:
		return c, true, nil
	case told == nil:
		ctx, cancel := context.WithTimeout(ctx, callPatience)
		defer cancel()
		past, err := r.b.engine.Past(ctx, c.ID)
		if err != nil {
			return c, false, err
		}
		told = lastDeath(past)
	}
	if told != nil {
		c.ExitCode = *told
	}
	return c, told != nil, nil
}

// toldCode is what the engine told of the end while we listened.
func (r *run) toldCode() *int {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	return r.death
}

func lastDeath(past []docker.Event) *int {
	for _, e := range slices.Backward(past) {
		if code, yes := e.Died(); yes {
			return &code
		}
	}
	return nil
}

// endUnseen reports an end that nobody saw. After a restart of the machine it is known
// at least that the program did not outlive that.
func (r *run) endUnseen(c docker.Container) bool {
	if r.b.engine.Local() && c.Started.Before(host.Booted()) {
		o := task.Outcome{ExitCode: -1, Class: task.NodeLost, Node: r.node(), Message: "ended with its machine, which was restarted while it ran"}
		return r.end(task.Change{Event: task.Event{Kind: task.EventExited, At: task.At(c.Finished), Outcome: o, Unprompted: true}})
	}
	return r.vanished(fmt.Sprintf("it ended while its container engine was down or was being killed, so nobody saw how (the engine says %d, as it does of every such end)", c.ExitCode))
}

// vanished reports that nobody knows how it ended, or whether it ran.
func (r *run) vanished(text string) bool {
	r.b.opts.Logger.Warn("nobody saw how a container ended", "task", r.ref.Seq, "attempt", r.ref.Attempt, "reason", text)
	return r.end(task.Change{Event: task.Event{
		Kind: task.EventVanished, At: r.now(), Class: task.Vanished, Text: text, Outcome: task.Outcome{Node: r.node()},
	}})
}
