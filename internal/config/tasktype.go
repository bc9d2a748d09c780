package config

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/spelling"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// TaskType is a program that a payload can name instead of bringing a command:
// {"type": "rl_sweep", ...}. The site says what runs, the payload goes to it.
// Its slices are not to be changed.
type TaskType struct {
	Name        string
	Description string
	// Command is the program and its arguments; a shell line of the file is here as
	// /bin/sh -c LINE. Empty only with an Image, which then brings its own.
	Command []string
	Image   string        // container image; "" = none
	Class   string        // of a submission that names none; "" = DefaultClass
	Dir     string        // working directory, absolute; "" = the workspace
	Env     []string      // "K=V", sorted by K
	Timeout time.Duration // enforced; 0 = none
	Retries int
	// Resources are what one attempt holds.
	Resources task.Resources
}

var typeName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,100}$`)

const typeNameRule = "the name of a task type has letters, digits, _ and - only, at most 100"

// Bounds of what one task may ask for; internal/task has the same.
const (
	maxMilliCPU = 1 << 30
	maxBytes    = 1 << 60
)

// typeFields are the keys of [types.NAME]; its env table is read beside them.
var typeFields = []field[TaskType]{
	at("description", textual("a text", anyText), func(t *TaskType) *string { return &t.Description }, Setting{
		Meaning: "a sentence for people", Zero: "none", Example: `"a sweep over learning rates"`,
	}),
	at("command", command(), func(t *TaskType) *[]string { return &t.Command }, Setting{
		Meaning: "what runs: a list of words, or one text that a shell takes apart; may be left out where image brings its own",
		Zero:    "that of the image", Example: `["python", "-m", "sweeps.rl"]`,
	}),
	at("image", textual("a text", anyText), func(t *TaskType) *string { return &t.Image }, Setting{
		Meaning: "the container image to run in", Zero: "runs on this machine directly", Example: `"registry.example.org/sweep:3"`,
	}),
	at("class", textual("the name of a class", classOrNone), func(t *TaskType) *string { return &t.Class }, Setting{
		Meaning: "the class of a submission that names none", Zero: DefaultClass, Example: `"cpu_long"`,
	}),
	at("workdir", path(), func(t *TaskType) *string { return &t.Dir }, Setting{
		Meaning: "the working directory, unless the submission names one", Zero: "the workspace", Example: `"~/sweeps"`,
	}),
	at("timeout", duration(task.MaxDuration), func(t *TaskType) *time.Duration { return &t.Timeout }, Setting{
		Meaning: "how long an attempt may run; then it is ended", Zero: "as its class has it", Example: `"12h"`,
	}),
	at("retries", integer(0, task.MaxRetries), func(t *TaskType) *int { return &t.Retries }, Setting{
		Meaning: "how many attempts may follow after failures of the program's own doing", Example: `2`,
	}),
	at("cpus", cpus(0), func(t *TaskType) *int64 { return &t.Resources.CPUMilli }, Setting{
		Meaning: "CPUs that an attempt holds", Zero: "one", Example: `2.5`,
	}),
	at("memory", size(0, maxBytes), func(t *TaskType) *int64 { return &t.Resources.MemBytes }, Setting{
		Meaning: "memory that an attempt holds", Zero: "not counted", Example: `"8GiB"`,
	}),
	at("gpus", integer(0, 1024), func(t *TaskType) *int { return &t.Resources.GPUs }, Setting{
		Meaning: "whole GPUs that an attempt holds", Zero: "as its class has it", Example: `1`,
	}),
	at("gpu_memory", size(0, maxBytes), func(t *TaskType) *int64 { return &t.Resources.GPUMem }, Setting{
		Meaning: "memory of one GPU that an attempt holds, to share it with others", Zero: "whole GPUs", Example: `"10GiB"`,
	}),
	at("gpu_model", textual("a text", anyText), func(t *TaskType) *string { return &t.Resources.GPUModel }, Setting{
		Meaning: "the model of GPU that it needs", Zero: "any", Example: `"H100"`,
	}),
}

// keyEnv is the table in [types.NAME] whose keys are variables.
const keyEnv = "env"

// envSetting documents keyEnv.
var envSetting = Setting{
	Key: "env", Type: "table of texts", Meaning: "variables of the environment, which a submission's own win over",
	Zero: "none", Example: `{ OMP_NUM_THREADS = "2" }`,
}

func anyText(s string) bool { return !strings.ContainsRune(s, 0) }

// Type returns the task type with that name. An unknown name is refused with the
// nearest known one, or with what to do.
func (c Config) Type(name string) (TaskType, error) {
	t, ok := c.Types[name]
	if ok {
		return t, nil
	}
	known := c.TypeNames()
	if len(known) == 0 {
		return TaskType{}, task.Errorf(task.CodeInvalid, "unknown task type %q; none is configured: add [types.NAME] with a command to the configuration file", name)
	}
	if meant := spelling.Nearest(name, known, 2); meant != "" {
		return TaskType{}, task.Errorf(task.CodeInvalid, "unknown task type %q; did you mean %s?", name, meant)
	}
	return TaskType{}, task.Errorf(task.CodeInvalid, "unknown task type %q; known are %s", name, strings.Join(known, ", "))
}

// TypeNames lists the task types by name.
func (c Config) TypeNames() []string { return slices.Sorted(maps.Keys(c.Types)) }

// sortEnv puts the variables in the order of their names.
func (t *TaskType) sortEnv() { sortVariables(t.Env) }

func sortVariables(env []string) {
	slices.SortFunc(env, func(a, b string) int {
		ka, _, _ := strings.Cut(a, "=")
		kb, _, _ := strings.Cut(b, "=")
		return strings.Compare(ka, kb)
	})
}
