package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/shellword"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// lineFlag is what a flag of submit means for a file of tasks.
type lineFlag struct {
	name string
	// key is what a line says it by; "" where a line cannot, and why says why.
	key string
	// besides are keys that say it as well: a line that has one of them wants no default.
	besides []string
	// fill gives the line what the flag says; nil where it cannot be given beside a file.
	fill func(line, given *lineFields)
	why  string
}

// lineFlags has each flag of submit, which a test makes sure of. A flag beside --from-file
// holds for the lines that do not say otherwise.
var lineFlags = []lineFlag{
	{name: "id", key: "id", why: "each line needs an id of its own"},
	{name: "name", key: "name", fill: func(l, g *lineFields) { l.req.Name = g.req.Name }},
	{name: "class", key: "class", fill: func(l, g *lineFields) { l.req.Class = g.req.Class }},
	{name: "priority", key: "priority", fill: func(l, g *lineFields) { l.req.Priority = g.req.Priority }},
	{name: "env", key: "env", fill: (*lineFields).fillEnv},
	{name: "workdir", key: "workdir", fill: func(l, g *lineFields) { l.dir = g.dir }},
	{name: "image", key: "image", fill: func(l, g *lineFields) { l.req.Spec.Image = g.req.Spec.Image }},
	{name: "mount", key: "mounts", fill: func(l, g *lineFields) { l.req.Spec.Mounts = g.req.Spec.Mounts }},
	{name: "network", key: "network", fill: func(l, g *lineFields) { l.req.Spec.Network = g.req.Spec.Network }},
	{name: "image-entrypoint", key: "image_entrypoint", fill: func(l, g *lineFields) { l.req.Spec.ImageEntrypoint = g.req.Spec.ImageEntrypoint }},
	{name: "timeout", key: "timeout", fill: func(l, g *lineFields) { l.req.Spec.TimeoutMs = g.req.Spec.TimeoutMs }},
	{name: "cpus", key: "cpus", fill: func(l, g *lineFields) { l.resources().CpuMillicores = g.resources().CpuMillicores }},
	{name: "mem", key: "mem", fill: func(l, g *lineFields) { l.resources().MemBytes = g.resources().MemBytes }},
	{name: "gpus", key: "gpus", besides: []string{"gpu_mem", "mig"}, fill: func(l, g *lineFields) { l.resources().Gpus = g.resources().Gpus }},
	{name: "gpu-mem", key: "gpu_mem", besides: []string{"gpus", "mig"}, fill: func(l, g *lineFields) { l.resources().GpuMemBytes = g.resources().GpuMemBytes }},
	{name: "gpu-model", key: "gpu_model", fill: func(l, g *lineFields) { l.resources().GpuModel = g.resources().GpuModel }},
	{name: "mig", key: "mig", besides: []string{"gpus", "gpu_mem"}, fill: func(l, g *lineFields) { l.resources().Mig = g.resources().Mig }},
	{name: "on-lost", key: "on_lost", fill: func(l, g *lineFields) { l.req.Spec.OnLost = g.req.Spec.OnLost }},
	{name: "retries", key: "retries", fill: func(l, g *lineFields) { l.req.Spec.Retries = g.req.Spec.Retries }},
	{name: "after", key: "after", fill: func(l, g *lineFields) { l.req.Spec.After = g.req.Spec.After }},
	{name: "payload", key: "payload", fill: func(l, g *lineFields) { l.req.Spec.PayloadJson = g.req.Spec.PayloadJson }},
	{name: "from-file", why: "it names the file"},
	{name: "wait", why: "it waits for one task"},
	{name: "follow", why: "it waits for one task"},
	{name: "json", why: "it is about what is printed"},
}

// fillEnv adds the variables that the line does not set.
func (l *lineFields) fillEnv(given *lineFields) {
	var env []string
	for _, kv := range given.req.Spec.Env {
		name, _, _ := strings.Cut(kv, "=")
		if !slices.ContainsFunc(l.env, func(own string) bool { return strings.HasPrefix(own, name+"=") }) {
			env = append(env, kv)
		}
	}
	l.env = append(l.env, env...)
	slices.Sort(l.env)
}

// lineDefaults is what the flags beside a file give to its lines.
type lineDefaults struct {
	flags []lineFlag // that were given
	value *lineFields
	text  string // the same, for ids that are derived
}

// fill gives a line what it does not say itself.
func (d lineDefaults) fill(l *lineFields, said map[string]json.RawMessage) {
	for _, f := range d.flags {
		says := func(key string) bool { _, ok := said[key]; return ok }
		if f.key == "env" || !says(f.key) && !slices.ContainsFunc(f.besides, says) {
			f.fill(l, d.value)
		}
	}
}

// lineDefaults reads the flags beside --from-file, and refuses those that cannot be there.
func (s *session) lineDefaults(c *cli.Context, cfg config.Config) (lineDefaults, error) {
	d := lineDefaults{value: &lineFields{session: s, cfg: cfg, dir: c.String("workdir")}}
	for _, f := range lineFlags {
		switch {
		case !c.IsSet(f.name) || f.name == "from-file" || f.name == "json":
			continue
		case f.name == "wait" || f.name == "follow":
			return d, usagef("--%s waits for one task; to wait for those of a file: %s submit --from-file %s | %s wait --from-file -",
				f.name, Program, shellword.Quote(c.String("from-file")), Program)
		case f.fill == nil:
			return d, usagef("--%s cannot be given together with --from-file: %s; put it into the lines of the file", f.name, f.why)
		}
		d.flags = append(d.flags, f)
	}
	switch {
	case c.NArg() > 0:
		return d, usagef("a command cannot be given together with --from-file")
	case c.String("payload") == "-" && c.String("from-file") == "-":
		return d, usagef("--payload - and --from-file - would both read the standard input")
	}
	if err := refuseLater(c); err != nil || len(d.flags) == 0 {
		return d, err
	}
	if err := checkGiven(c, cfg); err != nil {
		return d, err
	}
	spec := &pb.TaskSpec{Retries: int32(c.Int("retries"))}
	for _, step := range []func(*cli.Context, *pb.TaskSpec) error{s.specEnv, s.specPayload, s.specTimeout, s.specAfter, s.specNeeds} {
		if err := step(c, spec); err != nil {
			return d, err
		}
	}
	if err := s.defaultImage(c, spec); err != nil {
		return d, err
	}
	d.value.req = &pb.SubmitTaskRequest{Name: c.String("name"), Class: c.String("class"), Priority: int32(c.Int("priority")), Spec: spec}
	d.text = d.describe(c)
	return d, nil
}

// defaultImage reads --image and --mount, of which the file may have the one and the flags
// the other.
func (s *session) defaultImage(c *cli.Context, spec *pb.TaskSpec) error {
	spec.Image = c.String("image")
	if c.IsSet("image") && spec.Image == "" {
		return usagef("--image is empty; is a variable of the shell not set?")
	}
	return s.specMounts(c, spec)
}

// describe writes the flags as they were given; what is taken along with --env is not
// written out, as it may be a secret and changes from one shell to the next.
func (d lineDefaults) describe(c *cli.Context) string {
	var b strings.Builder
	for _, f := range d.flags {
		_, _ = fmt.Fprintf(&b, "\x00--%s=%v", f.name, c.Value(f.name))
	}
	return b.String()
}

// lineKeyHelp lists the keys of a line, for the help.
func lineKeyHelp() string {
	width := 0
	for _, k := range lineKeyDocs {
		width = max(width, len(k.key))
	}
	var b strings.Builder
	for _, k := range lineKeyDocs {
		_, _ = fmt.Fprintf(&b, "%-*s  %s\n", width, k.key, k.text)
	}
	return "\nkeys of a line of --from-file:\n" + layOut(strings.TrimRight(b.String(), "\n"))
}

// lineAt is where a line is in its file.
type lineAt struct {
	number int
	offset int64
}

// inOrder goes through the file from its beginning, or through its lines in the order given.
func (r *lineReader) inOrder(order []lineAt) error {
	r.order, r.offset, r.number = order, 0, 0
	if _, err := r.file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read the file again: %w", err)
	}
	r.in.Reset(r.file)
	return nil
}
