package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// verb is what is done to each of the tasks of cancel and retry.
type verb struct {
	// states are those of the tasks that --class alone means.
	states []string
	// newestFirst is the order among tasks that were chosen by state or class.
	newestFirst bool
	// atOnce is how many are asked for at a time, which share a commit of the
	// daemon; 0 = one after the other, where the order counts.
	atOnce int
	// do does it to one task.
	do func(ctx context.Context, cl *client, id string) (verdict, error)
	// already says what there is nothing to do to; nil = do says it itself.
	already func(info *pb.TaskInfo) (verdict, bool)
	// would says what do would do to a task that is as given.
	would func(info *pb.TaskInfo) verdict
	// away does what can be done where the queue is owned on another host, if that is
	// what the error says, and else returns it; nil = nothing can be done.
	away func(c *cli.Context, cfg config.Config, err error) error
}

// verdict is what became of one task.
type verdict struct {
	info *pb.TaskInfo
	said string // the rest of a sentence that begins with the task's id
	kind string // what it counts as in the summary
	code int    // exit code; 0 where what was asked for is so now
}

// bulk does something to all tasks that are meant, goes on after a failure, and
// ends with the worst exit code.
func (s *session) bulk(c *cli.Context, v verb) error {
	cfg, err := s.configToCall(c)
	if err != nil {
		return err
	}
	want, err := s.wanted(c, cfg, v.states)
	if err != nil {
		return err
	}
	needs := writes
	if c.Bool("dry-run") {
		needs = reads
	}
	err = s.withClient(c, needs, func(ctx context.Context, cl *client) error {
		tasks, err := want.resolve(ctx, cl)
		if err != nil {
			return err
		}
		if len(want.ids) > 1 && (v.already != nil || c.Bool("dry-run")) {
			if err := lookUp(ctx, cl, tasks); err != nil { // in few calls: they may be many, and have ended
				return err
			}
		}
		if v.newestFirst && want.chosen != nil {
			slices.Reverse(tasks)
		}
		r := bulkRun{s: s, cfg: cfg, json: c.Bool("json"), quiet: want.chosen != nil && s.out.tty, dry: c.Bool("dry-run")}
		for chunk := range slices.Chunk(tasks, max(v.atOnce, 1)) {
			if err := r.chunk(ctx, cl, v, chunk); err != nil {
				r.summary(targets{})
				return err
			}
		}
		if want.many() {
			r.summary(want)
		}
		if r.worst != exitDone {
			return &exitError{code: r.worst}
		}
		return nil
	})
	if v.away != nil && !c.Bool("dry-run") {
		err = v.away(c, cfg, err)
	}
	return err
}

// bulkRun is one such run.
type bulkRun struct {
	s     *session
	cfg   config.Config
	json  bool
	dry   bool
	quiet bool // no line per task: the summary says it all

	worst int
	kinds []string // in order of appearance
	count map[string]int64
}

// chunk does it to some tasks at once, and tells in their order.
func (r *bulkRun) chunk(ctx context.Context, cl *client, v verb, tasks []*pb.TaskInfo) error {
	verdicts, errs := make([]verdict, len(tasks)), make([]error, len(tasks))
	var wg sync.WaitGroup
	for i, t := range tasks {
		wg.Go(func() { verdicts[i], errs[i] = r.verdict(ctx, cl, v, t) })
	}
	wg.Wait()
	var first error
	for i, t := range tasks { // all of them: those behind one that ends the run are done, too
		if err := r.tell(ctx, t, verdicts[i], errs[i]); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// tell tells of one task; its error is for the whole run.
func (r *bulkRun) tell(ctx context.Context, t *pb.TaskInfo, got verdict, err error) error {
	switch {
	case err != nil && interrupted(ctx):
		return ctx.Err()
	case err != nil && task.CodeOf(err) == task.CodeUnavailable:
		return err // the others would fail as well
	case err != nil:
		got = failed(ctx, inWorkspace(r.cfg, err))
	}
	r.tally(got)
	switch {
	case got.code == exitNotFound: // that says which
		r.s.err.printf("%s\n", oneLine(got.said))
	case got.code != exitDone:
		r.s.err.printf("%s: %s\n", t.GetId(), oneLine(got.said))
	case r.json:
		j := taskJSON(got.info, r.s.now())
		j.Spec = nil
		return writeJSONLine(r.s.out, j)
	case !r.quiet || r.dry:
		r.s.out.printf("%s %s\n", t.GetId(), got.said)
	}
	return r.s.out.err
}

func (r *bulkRun) verdict(ctx context.Context, cl *client, v verb, t *pb.TaskInfo) (verdict, error) {
	if !r.dry {
		if t.GetState() != "" && v.already != nil {
			if got, is := v.already(t); is {
				return got, nil
			}
		}
		return v.do(ctx, cl, t.GetId())
	}
	if t.GetState() == "" {
		var err error
		if t, err = cl.GetTask(ctx, &pb.GetTaskRequest{TaskId: t.GetId()}); err != nil {
			return verdict{}, err
		}
	}
	return v.would(t), nil
}

// failed is the verdict on a task that nothing could be done to.
func failed(ctx context.Context, err error) verdict {
	v := verdict{said: err.Error(), kind: "failed", code: exitCode(ctx, err)}
	switch v.code {
	case exitNotFound:
		v.kind = "not found"
	case exitRefused:
		v.kind = "refused"
	}
	return v
}

func (r *bulkRun) tally(v verdict) {
	if r.count == nil {
		r.count = map[string]int64{}
	}
	if r.count[v.kind] == 0 {
		r.kinds = append(r.kinds, v.kind)
	}
	r.count[v.kind]++
	r.worst = max(r.worst, v.code)
}

// summary says how many tasks came out how: "cancelled 12, already ended 3".
func (r *bulkRun) summary(want targets) {
	var parts []string
	for _, kind := range r.kinds {
		parts = append(parts, fmt.Sprintf("%s %s", kind, humanize.Comma(r.count[kind])))
	}
	switch {
	case len(parts) > 0:
		r.s.err.printf("%s\n", strings.Join(parts, ", "))
	case want.chosen != nil:
		r.s.err.printf("no tasks%s in %s\n", want.describe(), r.cfg)
	}
}
