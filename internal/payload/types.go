package payload

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// TaskType is a kind of task that the configuration says how to run. The payload
// goes to its program as the payload file.
type TaskType struct {
	Argv  []string // empty only with an Image, which then brings its own
	Image string
	// Class is that of tasks which name none themselves; "" = the default one.
	Class     string
	Dir       string
	Env       []string // "K=V"
	Timeout   time.Duration
	Retries   int
	Resources task.Resources
}

// Types are the configured task types by name. None at all is a valid
// configuration.
type Types map[string]TaskType

// Names lists the types, sorted.
func (t Types) Names() []string { return slices.Sorted(maps.Keys(t)) }

// typeKey returns under which key a payload names its type; "" when it names
// none.
func typeKey(f Fields) string {
	for _, key := range []string{keyType, keyTaskType} {
		if f.has(key) {
			return key
		}
	}
	return ""
}

// typed reads the form that names a configured type.
func typed(f Fields, types Types) (*task.Spec, error) {
	key := typeKey(f)
	o := top(f)
	name := o.text(key)
	if err := o.err(); err != nil {
		return nil, err
	}
	t, ok := types[name]
	if !ok {
		return nil, unknownType(key, name, types)
	}
	s := &task.Spec{
		Argv: t.Argv, Image: t.Image, Dir: t.Dir, Env: mergeEnv(t.Env, nil),
		Timeout: t.Timeout, Retries: t.Retries, Resources: t.Resources,
	}
	if len(s.Argv) == 0 && s.Image == "" {
		return nil, refuse(key, fmt.Sprintf("is %q, which is configured without a program", name), "add a command or an image to "+table(name)+" in the configuration")
	}
	return s, nil
}

// unknownType refuses a type that is not configured, with those that are.
func unknownType(key, name string, types Types) error {
	problem := fmt.Sprintf("is %q, which is no configured task type", clip(name))
	switch names := types.Names(); {
	case name == "":
		return refuse(key, "is empty", "name a task type, or leave the key out")
	case len(names) == 0:
		return refuse(key, problem, "no task types are configured: add "+table(name)+" to the configuration")
	default:
		return refuse(key, problem, "known are "+strings.Join(names, ", ")+"; for another add "+table(name)+" to the configuration")
	}
}

var bareKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// table is how the configuration names a type.
func table(name string) string {
	if name = clip(name); !bareKey.MatchString(name) {
		name = fmt.Sprintf("%q", name)
	}
	return "[types." + name + "]"
}
