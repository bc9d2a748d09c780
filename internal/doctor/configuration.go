package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/dustin/go-humanize"

	"github.com/dspy-agent/dspy-agent/internal/config"
)

// checkConfiguration says where the settings come from, everything that is wrong
// with them, and what was meant to be one.
func checkConfiguration(_ context.Context, x *examination) []Finding {
	l := x.loaded()
	out := mistakes(l)
	if l.Err == nil {
		out = good("%s is read", l.Config.File)
		if !l.Config.FileRead() {
			out = good("no configuration file; the defaults hold, and what the environment says")
		}
	}
	misspelled := config.MisspelledVariables(x.Environ)
	for _, name := range slices.Sorted(maps.Keys(misspelled)) {
		out = append(out, bad(Warning, "the variable "+name+" is set, and nothing reads it", "if "+misspelled[name]+" was meant, set that")...)
	}
	if l.Usable {
		out = append(out, capacity(l.Config)...)
		out = append(out, tooEarly(l.Config)...)
	}
	return out
}

// mistakes makes a finding of each thing that is wrong.
func mistakes(l Loaded) []Finding {
	wrong, ok := errors.AsType[*config.InvalidError](l.Err)
	if !ok && l.Err != nil {
		return bad(Problem, l.Err.Error(), "")
	}
	var out []Finding
	if ok {
		mend := "mend it; until then nothing is started or submitted, and only a daemon that runs can be called"
		if l.Usable {
			mend += ", and what else is said here holds for the configuration without the file"
		}
		for _, p := range wrong.Problems {
			f := Finding{Status: Problem, Text: p.String(), Mend: mend}
			if !slices.Contains(out, f) { // one variable can be that of two settings
				out = append(out, f)
			}
		}
	}
	return out
}

// capacity compares what tasks may hold together with what there is.
func capacity(cfg config.Config) []Finding {
	var out []Finding
	if cpus := config.MachineCPUs(); cfg.CPUMilli > int64(cpus)*1000 {
		out = append(out, bad(Warning, fmt.Sprintf("capacity.cpus is %g, and this machine has %d for us: tasks will be slower than they expect", float64(cfg.CPUMilli)/1000, cpus), "lower it, or leave it out")...)
	}
	if mem := config.MachineMemory(); mem > 0 && cfg.MemBytes > mem {
		out = append(out, bad(Warning, fmt.Sprintf("capacity.memory is %s, and this machine has %s for us: the kernel will end tasks when it runs out", bytesText(cfg.MemBytes), bytesText(mem)), "lower it, or leave it out")...)
	}
	return out
}

func bytesText(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// tooEarly names what was set for a part that is not there yet.
func tooEarly(cfg config.Config) []Finding {
	var out []Finding
	for _, v := range cfg.Values() {
		if v.Later != "" && v.Source.Kind != config.FromDefault {
			out = append(out, bad(Note, fmt.Sprintf("%s is set and has no effect: %s", v.Source.Name, v.Later), "")...)
		}
	}
	return out
}
