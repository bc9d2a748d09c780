package payload

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// variableName is what a shell takes for one.
var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// environment returns the variables of an object, "K=V", sorted.
func (o *object) environment(key string) []string {
	in := o.inner(key)
	if len(in.fields) > MaxKeys {
		o.fail(key, fmt.Sprintf("has %d variables", len(in.fields)), fmt.Sprintf("at most %d are allowed", MaxKeys))
		return nil
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(in.fields)) {
		switch {
		case !variableName.MatchString(name):
			in.fail(name, "is no name of an environment variable", "use letters, digits and _, and begin with no digit")
		case task.ReservedVariable(name):
			in.fail(name, "is set by the scheduler", "leave it out, or take another name")
		default:
			out = append(out, name+"="+in.variable(name))
		}
	}
	return out
}

// variable returns the value of one variable. A number becomes the text that it
// was written as; what true would be, True or 1, only the sender can know.
func (o *object) variable(name string) string {
	if v := bytes.TrimSpace(o.fields[name]); len(v) > 0 && (v[0] == '-' || v[0] >= '0' && v[0] <= '9') {
		return string(v)
	}
	s, err := decodeText(o.name(name), o.fields[name])
	o.keep(err)
	return s
}

// mergeEnv returns the variables of both, sorted by name; where both have one,
// that of over.
func mergeEnv(over, below []string) []string {
	byName := make(map[string]string, len(over)+len(below))
	for _, kv := range slices.Concat(below, over) {
		name, _, _ := strings.Cut(kv, "=")
		byName[name] = kv
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		out = append(out, byName[name])
	}
	return out
}
