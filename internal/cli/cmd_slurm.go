package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/app"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/shellword"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

const cmdSlurm = "slurm"

// Actions of slurm.
const (
	slurmInfo   = "info"
	slurmRender = "render"
	slurmTest   = "test"
)

var slurmActions = []action{
	{slurmInfo, "", []string{"json"}, "the partitions: their limits, and the CPUs and GPUs that are free"},
	{slurmRender, "ID | --class CLASS [-- PROGRAM]", append(slurmJobFlags, "json"), "the script of a job, as sbatch would get it; nothing is submitted"},
	{slurmTest, "ID | --class CLASS [-- PROGRAM]", append(slurmJobFlags, "json"), "ask Slurm when that job would begin, and where; nothing is submitted"},
}

// slurmJobFlags are those of submit that matter to a job.
var slurmJobFlags = []string{"class", "payload", "env", "workdir", "timeout", "cpus", "mem", "gpus", "gpu-model"}

func (s *session) slurmCommand() *cli.Command {
	flags := slices.DeleteFunc(submitFlags(), func(f cli.Flag) bool { return !slices.Contains(slurmJobFlags, f.Names()[0]) })
	return s.command(cli.Command{
		Name: cmdSlurm, Usage: "show a Slurm cluster, and the jobs that tasks become there", Category: categoryDaemon,
		ArgsUsage: "info | render ID | test ID",
		Description: actionLines(slurmActions) + "\n" +
			"A job is that of a task that was submitted, or with --class and the flags of submit that of one that was not.\n" +
			"What the configuration and the templates say counts as it is now. docs/slurm.md tells what a job is made of.",
		Flags:  append(flags, jsonFlag()),
		Action: s.slurmAction,
	})
}

func (s *session) slurmAction(c *cli.Context) error {
	action := c.Args().First()
	switch {
	case action == "":
		return usagef("slurm takes one of %s", strings.Join(actionNames(cmdSlurm), ", "))
	case !slices.Contains(actionNames(cmdSlurm), action):
		return usagef("slurm has no %q%s", action, orHint(nearest(action, actionNames(cmdSlurm)), strings.Join(actionNames(cmdSlurm), ", ")))
	case action != slurmInfo:
		return s.slurmJob(c, action)
	case c.NArg() > 1:
		return usagef("slurm info: %q is too much", c.Args().Get(1))
	}
	for _, f := range slurmJobFlags {
		if c.IsSet(f) {
			return usagef("--%s goes with slurm render and slurm test", f)
		}
	}
	return s.slurmInfo(c)
}

func (s *session) slurmInfo(c *cli.Context) error {
	cfg, err := s.settings(c)
	if err != nil {
		return err
	}
	cluster, err := app.LookAtSlurm(c.Context, s.env.Environ)
	if err != nil {
		return err
	}
	j := slurmJSON(cluster)
	j.Folder = cfg.Slurm.Templates
	if j.Templates, err = app.SlurmTemplates(cfg); err != nil {
		return err
	}
	if c.Bool("json") {
		return writeJSON(s.out, j)
	}
	s.showSlurm(j)
	return nil
}

func (s *session) showSlurm(j jsonSlurm) {
	s.out.printf("cluster %s, Slurm %s\n", oneLine(j.Cluster), oneLine(j.Version))
	g := grid{header: []string{"PARTITION", "STATE", "TIME LIMIT", "DEFAULT", "NODES", "FREE CPUS", "FREE GPUS"}, drop: []int{3, 4}}
	for _, p := range j.Partitions {
		name := p.Name
		if p.Default {
			name += "*" // as sinfo has it
		}
		nodes := fmt.Sprint(p.Nodes)
		if p.NodesUp != p.Nodes {
			nodes = fmt.Sprintf("%d of %d", p.NodesUp, p.Nodes)
		}
		g.add(oneLine(name), strings.ToLower(p.State), orElse(p.MaxTime, "none"), orElse(p.DefaultTime, "the limit"), nodes,
			fmt.Sprintf("%d of %d", p.CPUsFree, p.CPUs), gpuCounts(p.GPUs))
	}
	g.write(s.out)
	switch {
	case j.Folder == "":
		s.out.printf("no templates: [slurm] templates of the configuration names no folder\n")
	case len(j.Templates) == 0:
		s.out.printf("no templates in %s\n", oneLine(j.Folder))
	default:
		s.out.printf("templates in %s: %s\n", oneLine(j.Folder), oneLine(strings.Join(j.Templates, ", ")))
	}
}

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return oneLine(text)
}

func gpuCounts(all []jsonGPUCount) string {
	var parts []string
	for _, g := range all {
		parts = append(parts, strings.TrimSpace(fmt.Sprintf("%d of %d %s", g.Free, g.Total, oneLine(g.Model))))
	}
	return orElse(strings.Join(parts, ", "), "none")
}

// slurmJob shows a job, or asks Slurm about it.
func (s *session) slurmJob(c *cli.Context, action string) error {
	cfg, err := s.settings(c)
	if err != nil {
		return err
	}
	job, err := s.jobAsked(c, cfg, action)
	if err != nil {
		return err
	}
	j := jsonSlurmJob{Sbatch: append([]string{"sbatch"}, job.Args...), Script: job.Script, Argv: job.Argv, Dir: job.Dir, Template: job.Template, Body: job.Body, Values: job.Values, Unused: job.Unused}
	for _, u := range job.Unused {
		s.err.printf("note: %s\n", oneLine(u))
	}
	if action == slurmTest {
		start, err := app.TestJob(c.Context, s.env.Environ, job)
		if err != nil {
			return err
		}
		j.Start = &jsonSlurmStart{CPUs: start.CPUs, Nodes: start.Nodes, Partition: start.Partition, Text: start.Text}
		if !start.At.IsZero() {
			j.Start.At = jsonAt(start.At.UnixNano())
		}
	}
	switch {
	case c.Bool("json"):
		return writeJSON(s.out, j)
	case action == slurmTest:
		s.showStart(j.Start)
	default:
		s.showJob(j)
	}
	return nil
}

// jobAsked is the job of a task, or of what the flags say.
func (s *session) jobAsked(c *cli.Context, cfg config.Config, action string) (job app.SlurmJob, err error) {
	if c.IsSet("class") {
		req, err := s.jobRequest(c, cfg)
		if err != nil {
			return job, err
		}
		return app.JobOfRequest(c.Context, cfg, req)
	}
	for _, f := range slurmJobFlags {
		if c.IsSet(f) {
			return job, usagef("--%s goes with --class: the job of a task that was submitted is what it is", f)
		}
	}
	if c.NArg() != 2 || c.Args().Get(1) == "" {
		return job, usagef("slurm %s takes the id of a task, or --class CLASS and what submit takes", action)
	}
	err = s.withClient(c, reads, func(ctx context.Context, cl *client) error {
		var info *pb.TaskInfo
		if info, err = cl.GetTask(ctx, &pb.GetTaskRequest{TaskId: c.Args().Get(1)}); err != nil {
			return noTask(err)
		}
		job, err = app.JobOfTask(cfg, info)
		return err
	})
	return job, err
}

// jobRequest is the submission that the flags and arguments stand for.
func (s *session) jobRequest(c *cli.Context, cfg config.Config) (*pb.SubmitTaskRequest, error) {
	if err := emptyClass(true, c.String("class")); err != nil {
		return nil, err
	}
	if err := checkClass(cfg, c.String("class")); err != nil {
		return nil, err
	}
	spec := &pb.TaskSpec{Argv: c.Args().Tail()}
	for _, step := range []func(*cli.Context, *pb.TaskSpec) error{s.specDir, s.specEnv, s.specPayload, s.specTimeout, s.specNeeds} {
		if err := step(c, spec); err != nil {
			return nil, err
		}
	}
	return &pb.SubmitTaskRequest{Class: c.String("class"), Spec: spec}, nil
}

func (s *session) showJob(j jsonSlurmJob) {
	s.err.printf("%s\n", oneLine(shellword.Join(j.Sbatch)))
	s.err.printf("runs, in %s: %s\n", oneLine(j.Dir), oneLine(shellword.Join(j.Argv)))
	s.out.printf("%s", s.scriptText(j.Script))
	if j.Template != "" {
		s.err.printf("the script of %s, with %s of the payload in its environment:\n", oneLine(j.Template), count(int64(len(j.Values)), "value"))
		s.out.printf("\n%s", s.scriptText(j.Body))
	}
}

// scriptText is a script as it is; on a terminal without what would act on that.
func (s *session) scriptText(text string) string {
	if !s.out.tty {
		return text
	}
	lines := strings.Split(text, "\t")
	for i, l := range lines {
		lines[i] = defuseLines(l)
	}
	return strings.Join(lines, "\t")
}

func (s *session) showStart(j *jsonSlurmStart) {
	switch {
	case j.Nodes == "":
		s.out.printf("Slurm takes it: %s\n", oneLine(j.Text))
	case j.At == nil:
		s.out.printf("Slurm takes it: %s on %s of partition %s\n", count(int64(j.CPUs), "CPU"), oneLine(j.Nodes), oneLine(j.Partition))
	default:
		s.out.printf("Slurm takes it: as of now it would begin %s, with %s on %s of partition %s\n", time.Time(*j.At).Local().Format("Jan 2 15:04"), count(int64(j.CPUs), "CPU"), oneLine(j.Nodes), oneLine(j.Partition))
	}
}

// jsonSlurm is what slurm info tells.
type jsonSlurm struct {
	Cluster    string          `json:"cluster" doc:"its name"`
	Version    string          `json:"version" doc:"of Slurm"`
	Accounting bool            `json:"accounting" doc:"it keeps a history of jobs (slurmdbd), which is asked about jobs that the controller has forgotten"`
	Partitions []jsonPartition `json:"partitions" doc:"as scontrol lists them"`
	Folder     string          `json:"template_folder,omitempty" doc:"the folder of templates"`
	Templates  []string        `json:"templates" doc:"those that are there"`
}

// jsonPartition is one of its partitions.
type jsonPartition struct {
	Name        string         `json:"name" doc:"its name"`
	Default     bool           `json:"default,omitempty" doc:"of jobs that name none"`
	State       string         `json:"state" doc:"UP, DOWN, DRAIN or INACTIVE"`
	MaxTime     string         `json:"max_time,omitempty" doc:"the longest that a job may have, as Slurm writes it; absent = any"`
	DefaultTime string         `json:"default_time,omitempty" doc:"of jobs that name none; absent = max_time"`
	MaxNodes    string         `json:"max_nodes,omitempty" doc:"the most that a job may have; absent = any"`
	Nodes       int            `json:"nodes" doc:"how many there are"`
	NodesUp     int            `json:"nodes_up" doc:"how many take jobs"`
	CPUs        int            `json:"cpus" doc:"of all nodes"`
	CPUsFree    int            `json:"cpus_free" doc:"of nodes that take jobs"`
	GPUs        []jsonGPUCount `json:"gpus" doc:"by model"`
}

// jsonGPUCount is how many GPUs of a model there are.
type jsonGPUCount struct {
	Model string `json:"model,omitempty" doc:"as Slurm calls it; absent where the site does not tell them apart"`
	Total int    `json:"total" doc:"how many there are"`
	Free  int    `json:"free" doc:"unused, on nodes that take jobs and have a CPU left"`
}

func slurmJSON(c app.SlurmCluster) jsonSlurm {
	j := jsonSlurm{Cluster: c.Settings.Cluster, Version: c.Settings.Version, Accounting: c.Settings.Accounting, Partitions: []jsonPartition{}}
	for _, p := range c.Partitions {
		out := jsonPartition{
			Name: p.Name, Default: p.Default, State: p.State, MaxTime: p.MaxTime, DefaultTime: p.DefaultTime, MaxNodes: p.MaxNodes,
			Nodes: p.Nodes, NodesUp: p.NodesUp, CPUs: p.CPUs, CPUsFree: p.CPUsFree, GPUs: []jsonGPUCount{},
		}
		for _, g := range p.GPUs {
			out.GPUs = append(out.GPUs, jsonGPUCount(g))
		}
		j.Partitions = append(j.Partitions, out)
	}
	return j
}

// jsonSlurmJob is what slurm render and slurm test tell.
type jsonSlurmJob struct {
	Sbatch   []string        `json:"sbatch" doc:"the command; it reads the script from its standard input. QUEUE in it stands for the id of the queue"`
	Script   string          `json:"script" doc:"what sbatch gets"`
	Argv     []string        `json:"argv" doc:"what the job runs"`
	Dir      string          `json:"dir" doc:"and in which folder"`
	Template string          `json:"template,omitempty" doc:"the path of the template"`
	Body     string          `json:"body,omitempty" doc:"the script that is made of it, a file which the job runs"`
	Values   []string        `json:"values,omitempty" doc:"values of the payload in its environment, as NAME=VALUE"`
	Unused   []string        `json:"unused,omitempty" doc:"what of the template has no effect, and why"`
	Start    *jsonSlurmStart `json:"start,omitempty" doc:"with slurm test: what Slurm says; at, cpus, nodes, partition, and text, its own words"`
}

// jsonSlurmStart is when a job would begin.
type jsonSlurmStart struct {
	At        *jsonTime `json:"at,omitempty"`
	CPUs      int       `json:"cpus,omitempty"`
	Nodes     string    `json:"nodes,omitempty"`
	Partition string    `json:"partition,omitempty"`
	Text      string    `json:"text"`
}
