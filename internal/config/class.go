package config

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/spelling"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Class is a kind of task: its limits and where it may run.
type Class struct {
	Name string
	// Limit is how long a task of the class is expected to run at most; 0 = no
	// expectation. It plans, warns and sorts; it kills only with Enforce.
	Limit   time.Duration
	Enforce bool
	// Parallel is how many of the class may be active at once; 0 = as many as
	// the machine's capacity allows.
	Parallel int
	// Short says that tasks of the class are expected to be so short that they
	// may be placed ahead of a free slot.
	Short bool
	// GPUs a task of the class needs unless it says otherwise.
	GPUs int
	// Image is the container image of a task of the class that names none; "" = none.
	Image string
	// Backends it may go to, best first.
	Backends []string
	// AliasOf is the class that this one is another name of; all else is empty then.
	AliasOf string
	// Patience is how long a task waits for room on this machine before Slurm may have it.
	Patience time.Duration
	// Slurm is what its jobs are like; what is empty is as in Config.Slurm.
	Slurm SlurmJob
}

// Names of the classes that every queue has.
const (
	ClassCPUShort = "cpu_short"
	ClassCPULong  = "cpu_long"
	ClassGPUShort = "gpu_short"
	ClassGPULong  = "gpu_long"
	ClassGPU      = "gpu"
	ClassGPUSlurm = "gpu_slurm"
)

// DefaultClass is the class of a task that names none.
const DefaultClass = ClassCPUShort

// builtinClasses are the classes that are always there, in the order in which
// people think of them.
var builtinClasses = []string{ClassCPUShort, ClassCPULong, ClassGPUShort, ClassGPULong, ClassGPU, ClassGPUSlurm}

// Names of the backends that a class may list.
const (
	BackendProcess   = "process"
	BackendContainer = "container"
	BackendSlurm     = "slurm"
	BackendWorker    = "worker"
)

// knownBackends are all that a class may list.
var knownBackends = []string{BackendContainer, BackendProcess, BackendSlurm, BackendWorker}

var className = regexp.MustCompile(`^[a-z0-9_]{1,64}$`)

const classNameRule = "the name of a class has small letters, digits and _ only, at most 64"

// classFields are the keys of [classes.NAME].
var classFields = []field[Class]{
	at("limit", duration(task.MaxDuration), func(c *Class) *time.Duration { return &c.Limit }, Setting{
		Meaning: "how long a task of the class is expected to run at most; it plans, warns and sorts, and ends a task only with enforce",
		Zero:    "no expectation", Example: `"10m"`,
	}),
	at("enforce", boolean(), func(c *Class) *bool { return &c.Enforce }, Setting{
		Meaning: "end a task that runs longer than the limit, unless it has a time limit of its own", Example: `true`,
	}),
	at("parallel", integer(0, 1_000_000), func(c *Class) *int { return &c.Parallel }, Setting{
		Meaning: "how many tasks of the class may be active at once", Zero: "as many as fit", Example: `4`,
	}),
	at("short", boolean(), func(c *Class) *bool { return &c.Short }, Setting{
		Meaning: "tasks of the class are so short that a few are placed ahead of a free slot; they wait for that slot, also where another comes free sooner", Example: `true`,
	}),
	at("backends", backends(), func(c *Class) *[]string { return &c.Backends }, Setting{
		Meaning: "where tasks of the class may run, best first", Example: `["slurm", "process"]`,
	}),
	at("gpus", integer(0, 1024), func(c *Class) *int { return &c.GPUs }, Setting{
		Meaning: "GPUs that a task of the class gets unless it says otherwise", Example: `2`,
	}),
	at("patience", duration(task.MaxDuration), func(c *Class) *time.Duration { return &c.Patience }, Setting{
		Meaning: "how long a task waits for room on this machine before Slurm may have it, where backends has slurm behind process or container", Zero: "not at all", Example: `"10m"`,
	}),
	at("partition", textual(slurmValue, isSlurmValue), func(c *Class) *string { return &c.Slurm.Partition }, Setting{
		Meaning: "Slurm's partition for tasks of the class", Zero: "as in [slurm]", Example: `"gpu"`,
	}),
	at("account", textual(slurmValue, isSlurmValue), func(c *Class) *string { return &c.Slurm.Account }, Setting{
		Meaning: "the account that Slurm charges", Zero: "as in [slurm]", Example: `"ada"`,
	}),
	at("qos", textual(slurmValue, isSlurmValue), func(c *Class) *string { return &c.Slurm.QOS }, Setting{
		Meaning: "Slurm's quality of service", Zero: "as in [slurm]", Example: `"high"`,
	}),
	at("constraint", textual(slurmValue, isSlurmValue), func(c *Class) *string { return &c.Slurm.Constraint }, Setting{
		Meaning: "features that nodes must have", Zero: "as in [slurm]", Example: `"a100&nvlink"`,
	}),
	at("walltime", duration(task.MaxDuration), func(c *Class) *time.Duration { return &c.Slurm.Walltime }, Setting{
		Meaning: "the time limit of jobs whose task has none", Zero: "as in [slurm]", Example: `"12h"`,
	}),
	at("directives", directives(), func(c *Class) *[]string { return &c.Slurm.Directives }, Setting{
		Meaning: "more #SBATCH lines for jobs of the class, behind those of [slurm]", Zero: "none", Example: `["--exclusive"]`,
	}),
	at("setup", texts(), func(c *Class) *[]string { return &c.Slurm.Setup }, Setting{
		Meaning: "lines that bash reads in a job before the task, behind those of [slurm]", Zero: "none", Example: `["module load cuda/12.4"]`,
	}),
	at("image", textual("a text", anyText), func(c *Class) *string { return &c.Image }, Setting{
		Meaning: "the container image in which a task of the class runs that names none", Zero: "on this machine directly", Example: `"python:3.12"`,
	}),
	at(keyAliasOf, textual("the name of a class, or \"\"", classOrNone), func(c *Class) *string { return &c.AliasOf }, Setting{
		Meaning: "the class is another name of this one, and has no other keys; \"\" makes a class of its own out of one that was another name",
		Example: `"cpu_long"`,
	}),
}

const keyAliasOf = "alias_of"

func classOrNone(s string) bool { return s == "" || className.MatchString(s) }

// newClass is a class that a site adds, before its keys are read.
func newClass(name string) Class {
	return Class{Name: name, Backends: []string{BackendProcess, BackendContainer}}
}

// Class returns the class with that name, an alias resolved. An unknown name is
// refused with the list of known ones, and the one that was meant.
func (c Config) Class(name string) (Class, error) {
	if name == "" {
		name = DefaultClass
	}
	k, ok := c.Classes[name]
	if !ok {
		known := c.ClassNames()
		err := task.Errorf(task.CodeInvalid, "unknown class %q; known are %s", name, strings.Join(known, ", "))
		if meant := spelling.Nearest(name, known, 2); meant != "" {
			err = task.Errorf(task.CodeInvalid, "%w; did you mean %s?", err, meant)
		}
		return Class{}, err
	}
	if k.AliasOf != "" {
		return c.Class(k.AliasOf)
	}
	return k, nil
}

// ClassNames lists the classes: first those that are always there, in the order
// people think of them, then those of the site by name.
func (c Config) ClassNames() []string {
	out := make([]string, 0, len(c.Classes))
	for _, n := range builtinClasses {
		if _, ok := c.Classes[n]; ok {
			out = append(out, n)
		}
	}
	own := len(out)
	for n := range c.Classes {
		if !slices.Contains(builtinClasses, n) {
			out = append(out, n)
		}
	}
	slices.Sort(out[own:])
	return out
}

// named fills in the names.
func named(classes map[string]Class) map[string]Class {
	for name, c := range classes {
		c.Name = name
		classes[name] = c
	}
	return classes
}
