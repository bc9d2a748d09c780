package app

import (
	"os"
	"slices"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/engine"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/version"
	"github.com/dspy-agent/dspy-agent/queue"
)

// This file translates the configuration into what each part wants to know.

func retention(r config.Retention) queue.Retention {
	return queue.Retention{Age: r.Age, Count: r.Count, TombstoneAge: r.TombstoneAge, EventAge: r.EventAge, EventMax: r.EventMax}
}

func (a *App) classes() map[string]engine.Class {
	out := make(map[string]engine.Class, len(a.conf.Classes))
	for n, c := range a.conf.Classes {
		out[n] = engine.Class{Name: c.Name, Parallel: c.Parallel, Short: c.Short, Backends: c.Backends}
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

// class resolves the class of a submission, and refuses one whose part is not
// in this release.
func (a *App) class(name string) (api.Class, error) {
	c, err := a.conf.Class(name)
	if err != nil {
		return api.Class{}, err
	}
	if c.Later != "" {
		return api.Class{}, task.Errorf(task.CodeUnsupported, "class %s: %s", c.Name, c.Later)
	}
	out := api.Class{Name: c.Name}
	if c.Enforce {
		out.Timeout = c.Limit
	}
	return out, nil
}

// info is what the daemon tells about itself.
func (a *App) info() api.Info {
	info := api.Info{
		Healthy: a.engine.Trouble() == "",
		Services: map[string]string{
			"queue": "ok", "process": "ok",
			"docker": notYet, "slurm": notYet, "gpu": notYet, "env-manager": notYet, "kafka": notYet,
		},
		Version: version.String(), Workspace: a.conf.Workspace, PID: os.Getpid(), StartedAt: a.started,
		QueueID: a.queue.ID(), QueueDir: a.conf.QueueDir, LogFile: logFile(a.conf),
		Limit: int(a.capacity().CPUMilli / 1000),
	}
	if trouble := a.engine.Trouble(); trouble != "" {
		info.Services["queue"] = "down: " + trouble
	}
	if down := a.process.Down(); down != "" {
		info.Services["process"] = "down: " + down
	}
	for _, n := range a.conf.ClassNames() {
		c := a.conf.Classes[n]
		if c.AliasOf == "" {
			info.Classes = append(info.Classes, api.ClassInfo{Name: n, Parallel: c.Parallel})
		}
	}
	return info
}

const notYet = "not in this release yet"
