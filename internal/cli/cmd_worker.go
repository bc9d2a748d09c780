package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/app"
)

const cmdWorker = "worker"

// workerIdle is how long a worker waits for a task unless told otherwise: a job that does
// nothing keeps others from its node.
const workerIdle = 5 * time.Minute

func (s *session) workerCommand() *cli.Command {
	return s.command(cli.Command{
		Name: cmdWorker, Usage: "run short tasks of the queue here, as in a Slurm job", Category: categoryDaemon,
		Description: "For thousands of short tasks in one Slurm job. A daemon on the login node has the queue; a\n" +
			"worker leases tasks of classes whose backends name \"worker\", runs them with the CPUs and GPUs\n" +
			"that its job has, and brings the results back. It needs the workspace under the same path, and\n" +
			"no connection. Some time before its job ends it takes no more, gives back what has not begun,\n" +
			"and ends with 0:\n\n" +
			"  sbatch --cpus-per-task=8 --time=1:00:00 --wrap 'dspy-agent --workspace DIR worker'\n\n" +
			"Outside Slurm it takes all CPUs of this machine, beside those that the daemon uses, unless\n" +
			"--cpus says how many. Ctrl-C ends it; what runs is given a few seconds, then tried elsewhere.",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "cpus", Usage: "run tasks on `N` CPUs (default: those of the job, or of this machine)"},
			&cli.StringFlag{Name: "gpus", Usage: "give tasks these GPUs, a `LIST` as for CUDA_VISIBLE_DEVICES (default: those of the job; outside Slurm none)"},
			&cli.StringFlag{Name: "for", Usage: "end after `TIME` (default: when the job does)"},
			&cli.StringFlag{Name: "idle", Usage: "end when nothing was to be done for `TIME` (0: stay)", DefaultText: "5m"},
			&cli.StringFlag{Name: "by", Usage: "reach the daemon by this `WAY` only: " + strings.Join(app.WorkerWays, ", ") + " (default: what works, in this order)"},
			boolFlag("auto", "the daemon has submitted this job"),
			jsonFlag(),
		},
		Action: s.worker,
	})
}

func (s *session) worker(c *cli.Context) error {
	cfg, err := s.ownWorkspace(c)
	if err != nil {
		return err
	}
	o := app.WorkerOptions{Config: cfg, Environ: s.env.Environ, Log: s.env.Stderr, Idle: workerIdle, CPUs: c.Int("cpus"), Auto: c.Bool("auto"), By: c.String("by")}
	if o.CPUs < 0 || c.IsSet("cpus") && o.CPUs == 0 {
		return usagef("--cpus: a worker has at least one CPU")
	}
	if o.By != "" && !slices.Contains(app.WorkerWays, o.By) {
		return usagef("--by: %q is none of %s", o.By, strings.Join(app.WorkerWays, ", "))
	}
	for key, into := range map[string]*time.Duration{"for": &o.For, "idle": &o.Idle} {
		if given := c.String(key); given != "" {
			if *into, err = parseSpan(given); err != nil {
				return usagef("--%s: %s", key, err)
			}
		}
	}
	if o.GPUs, err = gpuList(c.String("gpus")); err != nil {
		return err
	}
	o.Started = func(w app.WorkerInfo) { s.err.printf("%s\n", workerLine(w)) }
	report, err := app.Worker(c.Context, o)
	if err != nil {
		return err
	}
	return s.tellWorked(c, report)
}

// gpuList reads the GPUs that a worker gives out, each to one task at a time.
func gpuList(text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	list := strings.Split(text, ",")
	for i, gpu := range list {
		switch {
		case gpu == "" || strings.TrimSpace(gpu) != gpu:
			return nil, usagef("--gpus: %q has a GPU without a name; it is a list such as 0,1", text)
		case slices.Contains(list[:i], gpu):
			return nil, usagef("--gpus: %q has GPU %s twice, and two tasks would get it", text, gpu)
		}
	}
	return list, nil
}

// workerLine says what a worker has.
func workerLine(w app.WorkerInfo) string {
	text := fmt.Sprintf("worker %s: %s", w.ID, count(int64(w.CPUs), "CPU"))
	if len(w.GPUs) > 0 {
		text += fmt.Sprintf(", %s", count(int64(len(w.GPUs)), "GPU"))
	}
	if w.Job != "" {
		text += ", Slurm job " + w.Job
	}
	if !w.Until.IsZero() {
		text += ", until " + w.Until.Format(time.DateTime)
	}
	return text
}

// jsonWorker is what worker --json prints.
type jsonWorker struct {
	Reason    string `json:"reason"`
	Succeeded int    `json:"succeeded"`
	Failed    int    `json:"failed"`
	Returned  int    `json:"returned"`
}

func (s *session) tellWorked(c *cli.Context, r app.WorkerReport) error {
	if c.Bool("json") {
		return writeJSON(s.out, jsonWorker{Reason: r.Why, Succeeded: r.Succeeded, Failed: r.Failed, Returned: r.Returned})
	}
	s.out.printf("worked: %d succeeded, %d did not, %d given back before they began; it ended since %s\n", r.Succeeded, r.Failed, r.Returned, r.Why)
	return nil
}
