package docker

import (
	"context"
	"errors"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
)

// Event is something that happened to a container. It says to look at it; what is
// the case, Inspect says.
type Event struct {
	ID     string
	Action string // "die", "start", "oom", "destroy" ...
	Labels map[string]string
	At     time.Time
}

// Died returns the exit code that the event tells of; false when it tells of no end.
func (e Event) Died() (code int, yes bool) {
	if e.Action != "die" && e.Action != "died" {
		return 0, false
	}
	for _, key := range []string{"exitCode", "containerExitCode"} { // Docker's word, and Podman's
		if code, err := strconv.Atoi(e.Labels[key]); err == nil {
			return code, true
		}
	}
	return 0, false
}

// The actions that change how a container stands, or is found. Probes of health come as events
// as well, and are left out.
var watched = []string{"start", "die", "died", "oom", "kill", "stop", "destroy", "remove", "pause", "unpause", "rename"}

const (
	// overlap is how far back a new stream begins before the last event: engines
	// subscribe a moment after they have answered, and clocks differ.
	overlap = 5 * time.Second
	// Pauses between attempts to reach an engine.
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
	// connectPatience is how long an engine may take to say who it is.
	connectPatience = 10 * time.Second
	// pulseEvery is how often it is asked whether it still answers: one that is stopped, or
	// hangs, keeps its connections.
	pulseEvery = 10 * time.Second
)

// Handler is told by Follow. Its methods are called by one goroutine at a time.
type Handler struct {
	// Up is called when the stream of events is open: what happens from now on comes
	// as events, and what is there now is to be looked at. After an error the
	// stream is opened anew.
	Up func(ctx context.Context, e Engine) error
	// Event is called for each event. It must not wait.
	Event func(Event)
	// Down is called when the engine is away, each time an attempt to reach it failed.
	Down func(err error)
	// Retry ends the pause between two attempts early; nil = nobody does.
	Retry <-chan struct{}
}

// Follow keeps a stream of the events of containers with the labels until ctx ends.
// Nothing is missed: a stream that broke begins again before where it broke, and Up
// is called, after it was opened.
func (c *Client) Follow(ctx context.Context, labels []string, h Handler) {
	since := time.Now()
	for pause := firstPause; ctx.Err() == nil; {
		opened, err := c.stream(ctx, labels, since.Add(-overlap), h, &since)
		if ctx.Err() != nil {
			return
		}
		if opened {
			pause = firstPause
		}
		h.Down(err)
		rest(ctx, pause, h.Retry)
		pause = min(2*pause, lastPause)
	}
}

// rest waits, for ctx and for who is in a hurry as well.
func rest(ctx context.Context, d time.Duration, hurry <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-hurry:
	case <-ctx.Done():
	}
}

// stream opens one stream and reads it to its end.
func (c *Client) stream(ctx context.Context, labels []string, from time.Time, h Handler, last *time.Time) (opened bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	hello, done := context.WithTimeout(ctx, connectPatience)
	engine, err := c.Connect(hello)
	done()
	if err != nil {
		return false, err
	}
	f := labelled(labels)
	f.Add("type", "container")
	for _, a := range watched {
		f.Add("event", a)
	}
	messages, errs := c.api.Events(ctx, events.ListOptions{Since: strconv.FormatInt(from.Unix(), 10), Filters: f})
	pulse := make(chan error, 1)
	var beats sync.WaitGroup
	defer beats.Wait()
	defer cancel()
	beats.Go(func() { pulse <- c.pulse(ctx) })
	// The client hands over one event at a time and stalls when nobody takes it, so
	// they are taken while Up looks at everything.
	up := make(chan error, 1)
	go func() { up <- h.Up(ctx, engine) }()
	var early []events.Message
	for waiting := true; ; {
		select {
		case m := <-messages:
			*last = time.Unix(0, m.TimeNano)
			if waiting {
				early = append(early, m)
			} else {
				h.Event(eventOf(m))
			}
		case err := <-up:
			if waiting, up = false, nil; err != nil {
				return opened, err
			}
			opened = true
			for _, m := range early {
				h.Event(eventOf(m))
			}
			early = nil
		case err := <-pulse:
			if waiting {
				cancel()
				err = errors.Join(err, <-up)
			}
			return opened, err
		case err := <-errs:
			if waiting {
				cancel()
				if err := <-up; err == nil {
					opened = true
				}
			}
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return opened, c.fail("follow the events", "", err)
		}
	}
}

// pulse returns when the engine does not answer any more, or ctx has ended.
func (c *Client) pulse(ctx context.Context) error {
	tick := time.NewTicker(c.pause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		ask, done := context.WithTimeout(ctx, c.pause)
		_, err := c.api.Ping(ask)
		done()
		if err != nil && ctx.Err() == nil {
			return c.fail("ask whether the engine still answers", "", err)
		}
	}
}

// Past returns what the engine still knows of that happened to a container. Docker keeps
// the latest events of all containers, a few hundred, in its memory: what it has from
// before, it has been running since.
func (c *Client) Past(ctx context.Context, id string) ([]Event, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f := filters.NewArgs(filters.Arg("type", "container"), filters.Arg("container", id))
	messages, errs := c.api.Events(ctx, events.ListOptions{Since: "1", Until: stamp(time.Now()), Filters: f})
	var out []Event
	for {
		select {
		case m := <-messages:
			out = append(out, eventOf(m))
		case err := <-errs:
			if errors.Is(err, io.EOF) {
				return out, nil
			}
			return nil, c.fail("read the past events of container", id, err)
		}
	}
}

func eventOf(m events.Message) Event {
	return Event{ID: m.Actor.ID, Action: string(m.Action), Labels: m.Actor.Attributes, At: time.Unix(0, m.TimeNano)}
}
