package app

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/container"
	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/engine"
	"github.com/dspy-agent/dspy-agent/internal/scheduler"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// newContainers makes the backend for tasks with an image. Whether there is an engine it
// finds out by itself, and again and again: without one such tasks wait and say so.
func (a *App) newContainers(environ []string) (*container.Backend, error) {
	client, err := docker.New(engineOptions(a.conf.DockerHost, environ))
	if err != nil {
		return nil, fmt.Errorf("set up the container backend: %w", err)
	}
	a.down.push("connections to the container engine", func(context.Context) error { return client.Close() })
	c := a.conf.Containers
	mounts := c.Mounts
	if len(mounts) == 0 {
		mounts = []string{a.conf.Workspace}
	}
	b, err := container.New(container.Options{
		QueueID: a.queue.ID(), TasksDir: a.tasksDir(), Engine: client, Logger: a.log.With("component", "container"),
		Confirm: a.queue.ConfirmLease, Needed: a.needed,
		Rules: container.Rules{
			Mounts: mounts, Network: c.Network, Networks: c.Networks, Capabilities: c.Capabilities, ShmBytes: c.ShmBytes, PIDs: int64(c.PIDs),
		},
		Init: initProgram(),
		UID:  os.Geteuid(), GID: os.Getegid(),
		LogCap: a.conf.Output.MaxLogBytes, ResultLimit: a.conf.Output.MaxResultBytes,
	})
	if err != nil {
		return nil, fmt.Errorf("set up the container backend: %w", err)
	}
	return b, nil
}

// admit says what a task in a container may not ask for here; nil where there is no backend
// that would run it.
func (a *App) admit() func(*task.Spec) error {
	b, ok := a.backends[container.Name].(*container.Backend)
	if !ok {
		return nil
	}
	return b.Admit
}

// initProgram is the program that runs first in containers; "" = there is none.
func initProgram() string {
	argv := besideUs("dspy-init")
	if argv == nil {
		argv = inPath("dspy-init")
	}
	if argv == nil {
		return ""
	}
	return argv[0]
}

// engineOptions say which engine is meant, in the words of Docker's own command.
func engineOptions(dockerHost string, environ []string) docker.Options {
	get := func(name string) string {
		value := ""
		for _, kv := range environ {
			if k, v, ok := strings.Cut(kv, "="); ok && k == name {
				value = v
			}
		}
		return value
	}
	o := docker.Options{Host: dockerHost, CertDir: get("DOCKER_CERT_PATH"), ConfigDir: get("DOCKER_CONFIG"), Path: get("PATH")}
	home := get("HOME")
	if o.ConfigDir == "" && home != "" {
		o.ConfigDir = filepath.Join(home, ".docker")
	}
	if get("DOCKER_TLS_VERIFY") != "" {
		o.CertDir = cmp.Or(o.CertDir, o.ConfigDir)
	}
	return o
}

// needed says whether an attempt is one that the queue still follows.
func (a *App) needed(ref task.Ref) (bool, error) {
	t, err := a.queue.Get(ref.Seq)
	switch {
	case task.CodeOf(err) == task.CodeNotFound && err != nil:
		return false, nil
	case err != nil:
		return true, err
	}
	return t.Ref() == ref && t.State().Active(), nil
}

// images lists what waiting tasks need, and how each is as far as anybody knows.
func (a *App) images() []api.NeededImage {
	list, _ := a.queue.Images()
	var known map[string]scheduler.Image
	b := a.backends[container.Name]
	if f, ok := b.(engine.Fetcher); ok {
		known = f.Images()
	}
	out := make([]api.NeededImage, len(list))
	for i, name := range list {
		is, asked := known[name]
		if down := b.Down(); !is.Ready && !is.Bad && down != "" {
			is.Why = "is not looked for: " + down
		} else if !asked {
			is.Why = "was not looked for yet"
		}
		out[i] = api.NeededImage{Name: name, Ready: is.Ready, Bad: is.Bad, Why: is.Why}
	}
	return out
}

// imagePruner removes images that no task needs; nil where nobody looks after any.
func (a *App) imagePruner() func(ctx context.Context, dry bool) ([]api.PrunedImage, error) {
	b, ok := a.backends[container.Name].(*container.Backend)
	if !ok {
		return nil
	}
	return func(ctx context.Context, dry bool) ([]api.PrunedImage, error) {
		if down := b.Down(); down != "" {
			return nil, task.Errorf(task.CodeUnavailable, "no image was removed: %s", down)
		}
		needed, _ := a.queue.Images()
		all, err := b.Prune(ctx, needed, dry)
		if err != nil {
			return nil, task.Errorf(task.CodeInternal, "not all images were removed: %w", err)
		}
		out := make([]api.PrunedImage, len(all))
		for i, p := range all {
			out[i] = api.PrunedImage{Name: p.Image, Bytes: p.Bytes, Kept: p.Kept}
		}
		return out, nil
	}
}
