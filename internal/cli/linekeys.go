package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// lineFields collects what the keys of a line say.
type lineFields struct {
	session *session
	cfg     config.Config
	req     *pb.SubmitTaskRequest
	env     []string // "K=V"
	dir     string
}

// lineKeys are the keys of a line, and what each does. The list is documented
// in docs/cli.md.
var lineKeys = map[string]func(*lineFields, json.RawMessage) error{
	"id":        func(l *lineFields, v json.RawMessage) error { return stringValue(v, &l.req.Id) },
	"name":      func(l *lineFields, v json.RawMessage) error { return stringValue(v, &l.req.Name) },
	"class":     func(l *lineFields, v json.RawMessage) error { return stringValue(v, &l.req.Class) },
	"workdir":   func(l *lineFields, v json.RawMessage) error { return stringValue(v, &l.dir) },
	"priority":  func(l *lineFields, v json.RawMessage) error { return numberValue(v, &l.req.Priority) },
	"retries":   func(l *lineFields, v json.RawMessage) error { return numberValue(v, &l.req.Spec.Retries) },
	"argv":      (*lineFields).argv,
	"command":   (*lineFields).command,
	"env":       (*lineFields).environment,
	"payload":   (*lineFields).payload,
	"timeout":   (*lineFields).timeout,
	"cpus":      (*lineFields).cpus,
	"mem":       (*lineFields).mem,
	"on_lost":   (*lineFields).onLost,
	"gpus":      func(l *lineFields, v json.RawMessage) error { return numberValue(v, &l.resources().Gpus) },
	"gpu_mem":   (*lineFields).gpuMem,
	"gpu_model": func(l *lineFields, v json.RawMessage) error { return stringValue(v, &l.resources().GpuModel) },
	"mig":       func(l *lineFields, v json.RawMessage) error { return stringValue(v, &l.resources().Mig) },
	"after":     (*lineFields).after,
	"image":     func(l *lineFields, v json.RawMessage) error { return stringValue(v, &l.req.Spec.Image) },
	"mounts":    (*lineFields).mounts,
	"network":   func(l *lineFields, v json.RawMessage) error { return stringValue(v, &l.req.Spec.Network) },

	"image_entrypoint": func(l *lineFields, v json.RawMessage) error { return boolValue(v, &l.req.Spec.ImageEntrypoint) },
}

// lineKeyDocs documents lineKeys; a test holds the two together.
var lineKeyDocs = []struct{ key, text string }{
	{"id", "the task's id; left out, it is derived from the file's path, the line's number, its text and the flags; through a pipe it is new each time"},
	{"name", "for people; left out, the beginning of the command"},
	{"class", "class of the task"},
	{"argv", "array of strings: the program and its arguments"},
	{"command", "instead of argv: a string, which is run by /bin/sh -c, or an array as for argv"},
	{"workdir", "folder to run in; relative ones and the default are of the folder where submit runs"},
	{"env", "object of strings: variables beside those that are taken along"},
	{"payload", "JSON object for the program"},
	{"priority", "number; higher is sooner"},
	{"timeout", "number of seconds, or a string such as \"10m\""},
	{"retries", "number of further attempts when it fails"},
	{"cpus", "number of CPUs that the task needs, such as 4 or 0.5"},
	{"mem", "memory that the task needs, as a string with its unit such as \"4GiB\""},
	{"on_lost", "\"fail\", or \"retry\" if the task may run twice: what happens when nobody saw how it ended"},
	{"gpus", "number of whole GPUs; left out, as the class has it"},
	{"gpu_mem", "memory of one GPU, as a string with its unit such as \"20GiB\", for a part of it"},
	{"gpu_model", "model of GPU"},
	{"mig", "profile of a MIG instance"},
	{"image", "container image to run in; then workdir is a folder of the container"},
	{"mounts", "array of strings, each HOST[:PATH][:ro]: a path of this host that the container sees"},
	{"network", "network of the container: none, or one that the configuration allows"},
	{"image_entrypoint", "true: the command is given to the image's entry point, and does not replace it"},
	{"after", "array of strings, each ID or ID:ok, ID:any, ID:notok"},
}

func stringValue(v json.RawMessage, to *string) error {
	if json.Unmarshal(v, to) != nil {
		return errors.New("must be a string")
	}
	return nil
}

func boolValue(v json.RawMessage, to *bool) error {
	if json.Unmarshal(v, to) != nil {
		return errors.New("must be true or false")
	}
	return nil
}

func numberValue(v json.RawMessage, to *int32) error {
	if json.Unmarshal(v, to) != nil {
		return fmt.Errorf("%s is not a whole number of fitting size", v)
	}
	return nil
}

func (l *lineFields) argv(v json.RawMessage) error {
	if len(l.req.Spec.Argv) > 0 {
		return errors.New("give argv or command, not both")
	}
	if json.Unmarshal(v, &l.req.Spec.Argv) != nil || len(l.req.Spec.Argv) == 0 {
		return errors.New(`must be an array of strings, such as ["python", "train.py"]`)
	}
	return nil
}

func (l *lineFields) command(v json.RawMessage) error {
	var line string
	if json.Unmarshal(v, &line) != nil {
		return l.argv(v)
	}
	if len(l.req.Spec.Argv) > 0 {
		return errors.New("give argv or command, not both")
	}
	l.req.Spec.Argv = []string{"/bin/sh", "-c", line}
	return nil
}

func (l *lineFields) environment(v json.RawMessage) error {
	var env map[string]string
	if json.Unmarshal(v, &env) != nil {
		return errors.New(`must be an object of strings, such as {"SEED": "1"}`)
	}
	for _, k := range slices.Sorted(maps.Keys(env)) {
		if err := checkVariable(k); err != nil {
			return err
		}
		l.env = append(l.env, k+"="+env[k])
	}
	return nil
}

func (l *lineFields) payload(v json.RawMessage) error {
	l.req.Spec.PayloadJson = v
	return checkObject(v)
}

// checkObject says whether the bytes are one JSON object.
func checkObject(v []byte) error {
	var object map[string]json.RawMessage
	if json.Unmarshal(v, &object) != nil || object == nil {
		return errors.New("must be a JSON object")
	}
	return nil
}

func (l *lineFields) timeout(v json.RawMessage) error {
	given := string(v)
	if unquoted, err := strconv.Unquote(given); err == nil {
		given = unquoted
	}
	d, err := parseSpan(given)
	if err != nil {
		return err
	}
	if d < time.Millisecond {
		return errors.New("a task needs some time; leave it out for no limit")
	}
	l.req.Spec.TimeoutMs = d.Milliseconds()
	return nil
}

func (l *lineFields) mounts(v json.RawMessage) error {
	var given []string
	if json.Unmarshal(v, &given) != nil {
		return errors.New(`must be an array of strings such as ["/data:/data:ro"]`)
	}
	for _, text := range given {
		m, ok := l.session.mount(text)
		if !ok {
			return fmt.Errorf("%q is not HOST, HOST:PATH or HOST:PATH:ro, with an absolute PATH in the container", text)
		}
		l.req.Spec.Mounts = append(l.req.Spec.Mounts, m)
	}
	return nil
}

func (l *lineFields) resources() *pb.Resources {
	if l.req.Spec.Resources == nil {
		l.req.Spec.Resources = &pb.Resources{}
	}
	return l.req.Spec.Resources
}

func (l *lineFields) cpus(v json.RawMessage) error {
	given := string(v)
	if unquoted, err := strconv.Unquote(given); err == nil {
		given = unquoted
	}
	milli, ok := parseCPUs(given)
	if !ok {
		return fmt.Errorf("%s is no number of CPUs, such as 4 or 0.5", v)
	}
	l.resources().CpuMillicores = milli
	return nil
}

func (l *lineFields) mem(v json.RawMessage) error {
	n, err := sizeValue(v, "4GiB")
	l.resources().MemBytes = n
	return err
}

func (l *lineFields) onLost(v json.RawMessage) error {
	if err := stringValue(v, &l.req.Spec.OnLost); err != nil {
		return err
	}
	if !slices.Contains(lostPolicies, l.req.Spec.OnLost) {
		return fmt.Errorf("%q: it is fail, or retry", l.req.Spec.OnLost)
	}
	return nil
}

func (l *lineFields) gpuMem(v json.RawMessage) error {
	n, err := sizeValue(v, "20GiB")
	l.resources().GpuMemBytes = n
	return err
}

// sizeValue reads a number of bytes with its unit.
func sizeValue(v json.RawMessage, such string) (int64, error) {
	var given string
	if json.Unmarshal(v, &given) != nil {
		return 0, fmt.Errorf("must be a string such as %q", such)
	}
	n, ok := config.ParseSize(given)
	if !ok || n == 0 {
		return 0, fmt.Errorf("%s is no size; write it with its unit, such as %q", given, such)
	}
	return n, nil
}

func (l *lineFields) after(v json.RawMessage) error {
	var given []string
	if json.Unmarshal(v, &given) != nil {
		return errors.New(`must be an array of strings, such as ["prepare:ok"]`)
	}
	for _, g := range given {
		d, err := parseAfter(g)
		if err != nil {
			return err
		}
		l.req.Spec.After = append(l.req.Spec.After, d)
	}
	return nil
}

// otherKeys are what keys are called elsewhere, as far as they are not spelled alike.
var otherKeys = map[string]string{
	"memory": "mem", "cpu": "cpus", "gpu": "gpus", "gpu_memory": "gpu_mem", "cwd": "workdir", "dir": "workdir", "working_dir": "workdir",
	"retry": "retries", "mount": "mounts", "volumes": "mounts", "cmd": "command", "args": "argv", "environment": "env",
	"time": "timeout", "depends_on": "after", "dependencies": "after", "container": "image",
}

func unknownKey(key string) error {
	for _, f := range laterFlags {
		if key == f.name || key == strings.ReplaceAll(f.name, "-", "_") {
			return task.Errorf(task.CodeUnsupported, "%s: %s", key, f.why)
		}
	}
	known := slices.Sorted(maps.Keys(lineKeys))
	plain := strings.ReplaceAll(strings.ToLower(key), "-", "_")
	if n := cmp.Or(otherKeys[plain], nearest(plain, known)); n != "" {
		return fmt.Errorf("unknown key %q; did you mean %q?", key, n)
	}
	return fmt.Errorf("unknown key %q; known are %s", key, strings.Join(known, ", "))
}
