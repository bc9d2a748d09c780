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
	origin  string   // what derived ids begin with, see openLines
	ambient []string // what every task takes along
	given   lineDefaults
	file    io.ReadSeeker // what in reads, for going through it in another order
	in      *bufio.Reader
	number  int
	offset  int64    // of the next line
	at      int64    // of the newest one
	order   []lineAt // in which to go through it; nil: as they come
}

// next returns the next task, io.EOF after the last one.
func (r *lineReader) next() (taskLine, error) {
	for {
		if err := r.turn(); err != nil {
			return taskLine{}, err
		}
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

// turn goes to the next line in order.
func (r *lineReader) turn() error {
	if r.order == nil {
		return nil
	}
	if len(r.order) == 0 {
		return io.EOF
	}
	to := r.order[0]
	r.order = r.order[1:]
	if r.offset != to.offset {
		if _, err := r.file.Seek(to.offset, io.SeekStart); err != nil {
			return fmt.Errorf("go to line %d: %w", to.number, err)
		}
		r.in.Reset(r.file)
	}
	r.offset, r.number = to.offset, to.number-1
	return nil
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
		r.at = r.offset
		r.offset += int64(len(line))
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
	r.given.fill(l, fields)
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
	case len(spec.Mounts) > 0 && !r.boxed(l.req.Class):
		err = errors.New("mounts: they need an image, or a class with one; without a container the program sees the host's paths")
	default:
		spec.Dir, err = r.s.workdir(l.dir)
	}
	return err
}

// boxed says whether tasks of a class run in its image.
func (r *lineReader) boxed(class string) bool {
	is, err := r.cfg.Class(class)
	return err == nil && is.Image != ""
}

// deriveID makes the id of a line that has none. The same line of the same file, with the
// same flags, gets the same id again, which makes it the same task: so a command that broke
// off can be repeated. Two equal lines of one file are two tasks.
func (r *lineReader) deriveID(line []byte) string {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%s\x00%d\x00%s%s", r.origin, r.number, bytes.TrimSpace(line), r.given.text) // a hash never fails
	return "line-" + hex.EncodeToString(h.Sum(nil)[:12])
}

// checkLine says what the daemon would refuse, before anything is submitted.
func checkLine(req *pb.SubmitTaskRequest) error {
	p := req.Spec
	s := task.Spec{
		ID: req.Id, Name: req.Name, Class: req.Class, Priority: req.Priority,
		Argv: p.Argv, Dir: p.Dir, Env: p.Env, Payload: p.PayloadJson, Image: p.Image, ContainerDir: p.ContainerDir,
		Network: p.Network, ImageEntrypoint: p.ImageEntrypoint,
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
