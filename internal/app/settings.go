package app

import (
	"cmp"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/container"
	"github.com/dspy-agent/dspy-agent/internal/engine"
	"github.com/dspy-agent/dspy-agent/internal/payload"
	"github.com/dspy-agent/dspy-agent/internal/process"
	"github.com/dspy-agent/dspy-agent/internal/version"
	"github.com/dspy-agent/dspy-agent/internal/workers"
	"github.com/dspy-agent/dspy-agent/queue"
	"github.com/dspy-agent/dspy-agent/slurm"
)

// This file translates the configuration into what each part wants to know.

func retention(r config.Retention) queue.Retention {
	return queue.Retention{
		Age: bound(r.Age), Count: bound(r.Count), TombstoneAge: bound(r.TombstoneAge), EventAge: bound(r.EventAge), EventMax: bound(r.EventMax),
	}
}

// bound translates "no bound", which is 0 in the configuration, and for the queue,
// where 0 is a default, a negative number.
func bound[T int | time.Duration](v T) T {
	if v == 0 {
		return -1
	}
	return v
}

func (a *App) classes() map[string]engine.Class {
	out := make(map[string]engine.Class, len(a.conf.Classes))
	for n := range a.conf.Classes {
		c, err := a.conf.Class(n) // another name runs as the class it stands for
		if err != nil {
			continue // no configuration is loaded with a name that leads nowhere
		}
		k := engine.Class{Name: n, Parallel: c.Parallel, Short: c.Short, Backends: c.Backends, Patience: c.Patience, Limit: c.Limit, Shut: a.drain.shut(c.Name)}
		if c.Name != n {
			k.Of = c.Name
		}
		out[n] = k
	}
	return out
}

// basics are the variables without which hardly any program runs. Tasks get them
// from the daemon when whoever submitted them sent no environment.
var basics = []string{"HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER"}

func baseEnv(environ []string) []string {
	var out []string
	for _, kv := range environ {
		if name, _, ok := strings.Cut(kv, "="); ok && slices.Contains(basics, name) {
			out = append(out, kv)
		}
	}
	slices.Sort(out)
	return out
}

// resolver returns what resolves the class of a submission. All names are resolved
// beforehand: to copy the configuration for each submission took a fifth of its CPU time,
// since the stack of the call had to grow for it.
func (a *App) resolver() func(name string) (api.Class, error) {
	known := map[string]api.Class{}
	resolve := a.conf.Class
	for name := range a.conf.Classes {
		if c, err := resolve(name); err == nil {
			known[name] = classOf(c)
		}
	}
	return func(name string) (api.Class, error) {
		if k, ok := known[cmp.Or(name, config.DefaultClass)]; ok {
			return k, nil
		}
		c, err := resolve(name) // which says what was meant
		return classOf(c), err
	}
}

func classOf(c config.Class) api.Class {
	out := api.Class{Name: c.Name, GPUs: c.GPUs, Image: c.Image, Elsewhere: slices.Contains(c.Backends, slurm.Name) || slices.Contains(c.Backends, workers.Name)}
	if c.Enforce {
		out.Timeout = c.Limit
	}
	return out
}

// info is what the daemon tells about itself.
func (a *App) info() api.Info {
	info := api.Info{
		Healthy: true,
		Services: map[string]string{
			"queue": "ok", "process": "ok",
			"grpc": a.doors.GRPC.Status(), "http": a.doors.HTTP.Status(),
			"docker": "ok", "slurm": "ok", "workers": "ok", "gpu": a.gpuStatus(), "env-manager": notYet, "kafka": notYet,
		},
		Role: string(a.role()), Version: version.String(), Workspace: a.conf.Workspace, PID: os.Getpid(), StartedAt: a.started,
		QueueID: a.queue.ID(), QueueDir: a.conf.QueueDir, LogFile: logFile(a.conf),
		ConfigFile: a.conf.File, ConfigChanged: a.conf.FileTime(),
	}
	if trouble := a.queue.Trouble(); trouble != nil {
		info.Healthy, info.Services["queue"] = false, "down: "+trouble.Error()
	} else if bad := a.queue.Damaged(); len(bad) > 0 {
		info.Services["queue"] = damageText(bad)
	}
	for name, service := range map[string]string{process.Name: "process", container.Name: "docker", slurm.Name: "slurm", workers.Name: "workers"} {
		b := a.backends[name]
		down := b.Down()
		absentee, may := b.(engine.Absentee)
		limited, _ := b.(engine.Limited)
		switch {
		case down == "" && limited != nil && limited.NoGPUs() != "" && a.gpus != nil && a.gpus.Missing() == "":
			info.Services[service] = "degraded: containers get no GPUs: " + limited.NoGPUs()
		case down == "":
		case may && absentee.Absent(): // which a machine may do without
			info.Services[service] = "none: " + down
		default:
			info.Services[service] = "down: " + down
		}
	}
	if a.folder != nil { // else nobody looks at it
		info.Services[partDropFolder] = "ok"
		if down := a.folder.Down(); down != "" {
			info.Services[partDropFolder] = "down: " + down
		}
	}
	paused := a.queue.Paused()
	for _, n := range a.ownClasses() {
		info.Classes = append(info.Classes, api.ClassInfo{Name: n, Parallel: a.conf.Classes[n].Parallel, Paused: pauseOf(paused, n)})
	}
	return info
}

// ownClasses are the configured classes, without other names for them.
func (a *App) ownClasses() []string {
	return slices.DeleteFunc(a.conf.ClassNames(), func(n string) bool { return a.conf.Classes[n].AliasOf != "" })
}

// partDropFolder is what the drop folder is called among the parts.
const partDropFolder = "drop_folder"

const notYet = "not in this release yet"

// taskTypes are the task types that the site configured, as payloads name them.
func (a *App) taskTypes() payload.Types {
	types := make(payload.Types, len(a.conf.Types))
	for name, t := range a.conf.Types {
		types[name] = payload.TaskType{
			Argv: t.Command, Image: t.Image, Class: t.Class, Dir: t.Dir, Env: t.Env,
			Timeout: t.Timeout, Retries: t.Retries, Resources: t.Resources,
		}
	}
	return types
}
