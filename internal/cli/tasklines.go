package cli

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// maxLine bounds a line of a file of tasks: the largest payload, and room for
// the rest.
const maxLine = task.MaxPayloadBytes + 2<<20

// taskLine is one line of a file of tasks.
type taskLine struct {
	number int // from 1
	req    *pb.SubmitTaskRequest
}

// lineReader reads a file of tasks line by line. It holds one line at a time,
// so that a file may have any number of them.
type lineReader struct {
	s       *session
	cfg     config.Config
	origin  string   // what derived ids begin with: the file's absolute path, "-" for a pipe
	ambient []string // what every task takes along
	in      *bufio.Reader
	number  int
}

// next returns the next task, io.EOF after the last one.
func (r *lineReader) next() (taskLine, error) {
	for {
		line, err := r.readLine()
		if err != nil {
			return taskLine{}, err
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		req, err := r.parse(line)
		if err != nil {
			return taskLine{}, &badLineError{r.number, err}
		}
		return taskLine{r.number, req}, nil
	}
}

// badLineError is a line that is no task. The ones after it can still be read.
type badLineError struct {
	number int
	err    error
}

func (e *badLineError) Error() string { return fmt.Sprintf("line %d: %s", e.number, e.err) }

func (r *lineReader) readLine() ([]byte, error) {
	var line []byte
	for {
		part, err := r.in.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxLine:
			return nil, usagef("line %d is longer than %d bytes; put large data into a file and pass its path", r.number+1, maxLine)
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil && (!errors.Is(err, io.EOF) || len(line) == 0):
			return nil, err
		}
		r.number++
		return line, nil
	}
}

// parse turns a line into a request that has been checked as far as can be
// without the daemon.
func (r *lineReader) parse(line []byte) (*pb.SubmitTaskRequest, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(line, &fields); err != nil {
		return nil, notObject(err)
	}
	l := &lineFields{session: r.s, cfg: r.cfg, req: &pb.SubmitTaskRequest{Spec: &pb.TaskSpec{}}}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		set, ok := lineKeys[key]
		if !ok {
			return nil, unknownKey(key)
		}
		if err := set(l, fields[key]); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	if err := r.complete(l, line); err != nil {
		return nil, err
	}
	return l.req, checkLine(l.req)
}

// complete fills in what the line leaves out.
func (r *lineReader) complete(l *lineFields, line []byte) error {
	req, spec := l.req, l.req.Spec
	if req.Id == "" {
		req.Id = r.deriveID(line)
	}
	if req.Name == "" {
		req.Name = nameOf(spec.Argv)
	}
	spec.Env, spec.AmbientEnv = l.env, r.ambient
	if err := r.place(l); err != nil {
		return err
	}
	return checkClass(r.cfg, req.Class)
}

// place says where the program runs: in a folder of this host, or of the container.
func (r *lineReader) place(l *lineFields) (err error) {
	spec := l.req.Spec
	switch {
	case spec.Image != "":
		spec.Dir, spec.ContainerDir = r.s.env.Cwd, l.dir
	case len(spec.Mounts) > 0:
		err = errors.New("mounts: they need an image; without a container the program sees the host's paths")
	default:
		spec.Dir, err = r.s.workdir(l.dir)
	}
	return err
}

// deriveID makes the id of a line that has none. The same line of the same file
// gets the same id again, which makes it the same task: so a command that broke
// off can be repeated. Two equal lines of one file are two tasks.
func (r *lineReader) deriveID(line []byte) string {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%s\x00%d\x00%s", r.origin, r.number, bytes.TrimSpace(line)) // a hash never fails
	return "line-" + hex.EncodeToString(h.Sum(nil)[:12])
}

// checkLine says what the daemon would refuse, before anything is submitted.
func checkLine(req *pb.SubmitTaskRequest) error {
	p := req.Spec
	s := task.Spec{
		ID: req.Id, Name: req.Name, Class: req.Class, Priority: req.Priority,
		Argv: p.Argv, Dir: p.Dir, Env: p.Env, Payload: p.PayloadJson, Image: p.Image, ContainerDir: p.ContainerDir,
		Timeout: time.Duration(p.TimeoutMs) * time.Millisecond, Retries: int(p.Retries),
	}
	if r := p.Resources; r != nil {
		s.Resources = task.Resources{GPUs: int(r.Gpus), GPUMem: r.GpuMemBytes, GPUModel: r.GpuModel, MIG: r.Mig}
		if problem := s.Resources.GPURequest().Problem(); problem != "" {
			return errors.New(problem)
		}
	}
	for _, d := range p.After {
		when, _ := task.ParseCondition(d.When)
		s.After = append(s.After, task.Dep{ID: d.Id, When: when})
	}
	if s.Class == "" {
		s.Class = config.DefaultClass
	}
	if len(s.Argv) == 0 && s.Image == "" {
		if len(s.Payload) == 0 {
			return errors.New("says nothing to run; it needs argv, command, or a payload that names a command")
		}
		s.Builtin = task.BuiltinEcho // what a payload runs is for the daemon to find out
	}
	return s.Validate()
}

func notObject(err error) error {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("is not JSON: %w (at byte %d)", err, syntax.Offset)
	}
	return errors.New(`is not a JSON object such as {"argv": ["python", "train.py"]}`)
}

func unknownKey(key string) error {
	for _, f := range laterFlags {
		if key == f.name || key == strings.ReplaceAll(f.name, "-", "_") {
			return task.Errorf(task.CodeUnsupported, "%s: %s", key, f.why)
		}
	}
	known := slices.Sorted(maps.Keys(lineKeys))
	if n := nearest(key, known); n != "" {
		return fmt.Errorf("unknown key %q; did you mean %q?", key, n)
	}
	return fmt.Errorf("unknown key %q; known are %s", key, strings.Join(known, ", "))
}

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
	"gpus":      func(l *lineFields, v json.RawMessage) error { return numberValue(v, &l.resources().Gpus) },
	"gpu_mem":   (*lineFields).gpuMem,
	"gpu_model": func(l *lineFields, v json.RawMessage) error { return stringValue(v, &l.resources().GpuModel) },
	"mig":       func(l *lineFields, v json.RawMessage) error { return stringValue(v, &l.resources().Mig) },
	"after":     (*lineFields).after,
	"image":     func(l *lineFields, v json.RawMessage) error { return stringValue(v, &l.req.Spec.Image) },
	"mounts":    (*lineFields).mounts,
}

// lineKeyDocs documents lineKeys; a test holds the two together.
var lineKeyDocs = []struct{ key, text string }{
	{"id", "the task's id; left out, it is derived from the file's path, the line's number and its text"},
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
	{"gpus", "number of whole GPUs; left out, as the class has it"},
	{"gpu_mem", "memory of one GPU, as a string with its unit such as \"20GiB\", for a part of it"},
	{"gpu_model", "model of GPU"},
	{"mig", "profile of a MIG instance"},
	{"image", "container image to run in; then workdir is a folder of the container"},
	{"mounts", "array of strings, each HOST[:PATH][:ro]: a path of this host that the container sees"},
	{"after", "array of strings, each ID or ID:ok, ID:any, ID:notok"},
}

func stringValue(v json.RawMessage, to *string) error {
	if json.Unmarshal(v, to) != nil {
		return errors.New("must be a string")
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

func (l *lineFields) gpuMem(v json.RawMessage) error {
	var given string
	if json.Unmarshal(v, &given) != nil {
		return errors.New(`must be a string such as "20GiB"`)
	}
	n, ok := config.ParseSize(given)
	if !ok || n == 0 {
		return fmt.Errorf("%s is no size; write it with its unit, such as \"20GiB\"", given)
	}
	l.resources().GpuMemBytes = n
	return nil
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
