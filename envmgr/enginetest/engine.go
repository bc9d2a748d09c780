// Package enginetest has a container engine that is not there: it does at once what it is
// told, and a test can have any call wait, or fail, before and after it has its effect. It
// is for what a real engine shows only by chance. Nothing of it outlives a test.
package enginetest

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/docker"
)

// Hook is told of a call, and may have it wait. What it returns the call returns.
type Hook func(ctx context.Context, call, what string) error

// Engine is one with no containers. Its images are those that Images names, which is set
// before the Engine is used.
type Engine struct {
	Images map[string]bool

	mu     sync.Mutex
	before Hook
	after  Hook
	made   int
	all    map[string]docker.Service // by id
	calls  map[string]int
	handle docker.Handler
}

// do is a call: change has its effect.
func (e *Engine) do(ctx context.Context, call, what string, change func() error) error {
	e.mu.Lock()
	if e.calls == nil {
		e.calls, e.all = map[string]int{}, map[string]docker.Service{}
	}
	e.calls[call]++
	before, after := e.before, e.after
	e.mu.Unlock()
	if before != nil {
		if err := before(ctx, call, what); err != nil {
			return err
		}
	}
	e.mu.Lock()
	err := change()
	e.mu.Unlock()
	if after != nil && err == nil {
		err = after(ctx, call, what)
	}
	return err
}

// Before has a hook be called before each call has its effect; nil = none is.
func (e *Engine) Before(h Hook) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.before = h
}

// After has a hook be called when a call has had its effect; nil = none is.
func (e *Engine) After(h Hook) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.after = h
}

// Calls returns how often a method was called.
func (e *Engine) Calls(method string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.calls[method]
}

// Put has a container be there, and returns its id.
func (e *Engine) Put(c docker.Service) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.all == nil {
		e.calls, e.all = map[string]int{}, map[string]docker.Service{}
	}
	e.made++
	c.ID = fmt.Sprint("c", e.made)
	e.all[c.ID] = c
	return c.ID
}

// Of returns the container of a name; false when there is none.
func (e *Engine) Of(name string) (docker.Service, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.all {
		if c.Name == name {
			return c, true
		}
	}
	return docker.Service{}, false
}

// Change changes a container, and tells nobody.
func (e *Engine) Change(name string, change func(*docker.Service)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, c := range e.all {
		if c.Name == name {
			change(&c)
			e.all[id] = c
		}
	}
}

// Die ends a container, and tells of it.
func (e *Engine) Die(name string, code int) {
	e.Change(name, func(c *docker.Service) { c.Phase, c.ExitCode, c.Finished = docker.Exited, code, time.Now() })
	e.Tell(name, "die")
}

// Tell tells of something that happened to a container.
func (e *Engine) Tell(name, action string) {
	c, _ := e.Of(name)
	labels := maps.Clone(c.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels["name"] = name
	e.mu.Lock()
	tell := e.handle.Event
	e.mu.Unlock()
	if tell != nil {
		tell(docker.Event{ID: c.ID, Action: action, Labels: labels, At: time.Now()})
	}
}

// Lose has the engine be away.
func (e *Engine) Lose(err error) {
	e.mu.Lock()
	tell := e.handle.Down
	e.mu.Unlock()
	tell(err)
}

// Find has it answer again.
func (e *Engine) Find(ctx context.Context) error {
	e.mu.Lock()
	tell := e.handle.Up
	e.mu.Unlock()
	return tell(ctx, docker.Engine{})
}

// Follow is of envmgr.Engine, as what follows.
func (e *Engine) Follow(ctx context.Context, _ []string, h docker.Handler) {
	e.mu.Lock()
	e.handle = h
	e.mu.Unlock()
	if err := h.Up(ctx, docker.Engine{}); err != nil {
		h.Down(err)
	}
	<-ctx.Done()
}

// List lists all containers.
func (e *Engine) List(ctx context.Context, _ ...string) (out []docker.Listed, err error) {
	err = e.do(ctx, "List", "", func() error {
		for _, id := range slices.Sorted(maps.Keys(e.all)) {
			c := e.all[id]
			out = append(out, docker.Listed{ID: id, Name: c.Name, Labels: c.Labels, Phase: c.Phase})
		}
		return nil
	})
	return out, err
}

// InspectService looks at one.
func (e *Engine) InspectService(ctx context.Context, id string) (c docker.Service, err error) {
	err = e.do(ctx, "InspectService", id, func() (err error) {
		c, err = e.of(id)
		return err
	})
	return c, err
}

func (e *Engine) of(id string) (docker.Service, error) {
	c, ok := e.all[id]
	if !ok {
		return c, fmt.Errorf("%w: %s", docker.ErrNoContainer, id)
	}
	return c, nil
}

// Image says whether there is one.
func (e *Engine) Image(ctx context.Context, ref string) (docker.Image, error) {
	return docker.Image{}, e.do(ctx, "Image", ref, func() error {
		if !e.Images[ref] {
			return fmt.Errorf("%w: %s", docker.ErrNoImage, ref)
		}
		return nil
	})
}

// Exec runs nothing.
func (e *Engine) Exec(context.Context, string, []string) (code int, output string, err error) {
	return 0, "", nil
}

// Logs has nothing.
func (e *Engine) Logs(context.Context, string, docker.LogOptions, func(docker.Entry) error, func() error) error {
	return nil
}

// Pull has an image be there.
func (e *Engine) Pull(ctx context.Context, ref string, _ func(docker.Progress)) error {
	return e.do(ctx, "Pull", ref, func() error {
		if e.Images == nil {
			e.Images = map[string]bool{}
		}
		e.Images[ref] = true
		return nil
	})
}

// EnsureNetwork does nothing.
func (e *Engine) EnsureNetwork(ctx context.Context, name string, _ map[string]string) error {
	return e.do(ctx, "EnsureNetwork", name, func() error { return nil })
}

// JoinNetwork puts a container into a network.
func (e *Engine) JoinNetwork(ctx context.Context, name, id string, _ ...string) error {
	return e.do(ctx, "JoinNetwork", name, func() error {
		c, err := e.of(id)
		if err == nil {
			c.Networks[name] = netip.Addr{}
		}
		return err
	})
}

// CreateService makes a container.
func (e *Engine) CreateService(ctx context.Context, s docker.ServiceSpec) (id string, err error) {
	err = e.do(ctx, "CreateService", s.Name, func() error {
		e.made++
		id = fmt.Sprint("c", e.made)
		c := docker.Service{Networks: map[string]netip.Addr{s.Network: {}}}
		c.ID, c.Name, c.Labels = id, s.Name, s.Labels
		e.all[id] = c
		return nil
	})
	return id, err
}

// Start starts one.
func (e *Engine) Start(ctx context.Context, id string) error {
	return e.change(ctx, "Start", id, func(c *docker.Service) {
		if c.Phase != docker.Running {
			e.made++ // no two lives begin at one moment, though time may stand still
			c.Phase, c.Started, c.ExitCode = docker.Running, time.Now().Add(time.Duration(e.made)), 0
		}
	})
}

// Stop ends one.
func (e *Engine) Stop(ctx context.Context, id string, _ time.Duration) error {
	return e.change(ctx, "Stop", id, func(c *docker.Service) {
		c.Phase, c.Restarting, c.Finished = docker.Exited, false, time.Now()
	})
}

// RemoveService removes one.
func (e *Engine) RemoveService(ctx context.Context, id string) error {
	return e.do(ctx, "RemoveService", id, func() error {
		delete(e.all, id)
		return nil
	})
}

func (e *Engine) change(ctx context.Context, call, id string, change func(*docker.Service)) error {
	return e.do(ctx, call, id, func() error {
		c, err := e.of(id)
		if err == nil {
			change(&c)
			e.all[id] = c
		}
		return err
	})
}
