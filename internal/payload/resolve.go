package payload

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// The keys of a payload that say what to run and how.
const (
	keyExecution = "execution"
	keyCommand   = "command"
	keyImage     = "image"
	keyWorkdir   = "workdir"
	keyTimeout   = "timeout"
	keyType      = "type"
	keyTaskType  = "task_type"
	keyAction    = "action"
)

// echoClass is the class in which a payload that names nothing to run is echoed.
const echoClass = "cpu_short"

// Resolve fills in what the payload says about the program: Builtin or Argv, and
// Dir and Timeout where the spec does not say them itself. The spec's class must
// be the resolved one. It refuses with CodeInvalid what can never work, and with
// CodeUnsupported what this release cannot do yet.
func Resolve(f Fields, spec *task.Spec) error {
	if err := refuseLater(f); err != nil {
		return err
	}
	if err := program(f, spec); err != nil {
		return err
	}
	return manner(f, spec)
}

// refuseLater refuses the keys whose meaning is defined and not yet there, so
// that a task never runs without the container or the GPU that it asked for.
func refuseLater(f Fields) error {
	if f.has(keyExecution) {
		if s, ok := f.text(keyExecution); ok && pythonRepr(s) {
			return reprError(keyExecution)
		}
		return later("\"execution\" objects")
	}
	if !f.has(keyCommand) {
		for _, key := range []string{keyType, keyTaskType} {
			if f.has(key) {
				return later(fmt.Sprintf("task types (%q)", key))
			}
		}
	}
	for _, key := range []string{keyImage, "gpus", "gpu_memory"} {
		if f.has(key) {
			return later(fmt.Sprintf("%q in a payload", key))
		}
	}
	return nil
}

func later(what string) error {
	return task.Errorf(task.CodeUnsupported,
		"%s will be understood by a later release; this one runs \"command\" (a JSON array of words, or one shell line) with \"workdir\" and \"timeout\"", what)
}

func program(f Fields, spec *task.Spec) error {
	switch {
	case f.has(keyCommand):
		argv, err := command(f)
		spec.Argv = argv
		return err
	case !f.has(keyAction) && spec.Class == echoClass:
		spec.Builtin = task.BuiltinEcho
		return nil
	default:
		return task.Errorf(task.CodeInvalid,
			"the payload names nothing to run: add \"command\", a JSON array of words (json.dumps([\"python\", \"train.py\"])) or one shell line")
	}
}

// command reads the words of an array, or makes a shell line of a text.
func command(f Fields) ([]string, error) {
	if line, ok := f.text(keyCommand); ok {
		switch {
		case strings.TrimSpace(line) == "":
			return nil, task.Errorf(task.CodeInvalid, "\"command\" is empty")
		case pythonRepr(line):
			return nil, reprError(keyCommand)
		}
		return []string{"/bin/sh", "-c", line}, nil
	}
	var words []*string // null must not become an empty word
	if err := json.Unmarshal(f[keyCommand], &words); err != nil || slices.Contains(words, nil) {
		return nil, task.Errorf(task.CodeInvalid, "\"command\" must be an array of texts, or one text for the shell")
	}
	if len(words) == 0 {
		return nil, task.Errorf(task.CodeInvalid, "\"command\" is empty")
	}
	argv := make([]string, len(words))
	for i, w := range words {
		argv[i] = *w
	}
	return argv, nil
}

// manner reads where and for how long.
func manner(f Fields, spec *task.Spec) error {
	if f.has(keyWorkdir) && spec.Dir == "" {
		dir, ok := f.text(keyWorkdir)
		if !ok || !filepath.IsAbs(dir) {
			return task.Errorf(task.CodeInvalid, "\"workdir\" is %s; it must be an absolute path", f[keyWorkdir])
		}
		spec.Dir = dir
	}
	if f.has(keyTimeout) && spec.Timeout == 0 {
		limit, err := timeout(f)
		if err != nil {
			return err
		}
		spec.Timeout = limit
	}
	return nil
}
