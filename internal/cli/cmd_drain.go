package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/app"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

const cmdDrain = "drain"

func (s *session) drainCommand() *cli.Command {
	return s.command(cli.Command{
		Name: cmdDrain, Usage: "start what is ready and follow it, without a daemon", Category: categoryDaemon,
		Description: "For hosts that allow no daemon, from cron or scrontab. It does what a daemon does, and ends\n" +
			"with 0 when nothing is left to do, when the time is over, or when somebody else does it\n" +
			"already and lives. What still runs then runs on, and the next drain or daemon finds it. Where the\n" +
			"queue cannot be written, as on a full disk, it fails and says so. With nothing to do it writes\n" +
			"nothing, and prints nothing but to a terminal, or that there is no queue and no drop folder. Its log is that of the daemon: logs/orchestrator.log.",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "class", Usage: "start only tasks of this `CLASS`; can be given several times (what runs already is followed in any case)"},
			&cli.StringFlag{Name: "for", Usage: "leave after `TIME` (0: stay until nothing is left)", DefaultText: "10m"},
			takeOverFlag(),
			boolFlag("quiet", "say nothing when somebody else does it, or when all went well"),
			jsonFlag(),
		},
		Action: s.drain,
	})
}

// drainFor is how long a drain stays unless told otherwise: cron starts the next.
const drainFor = 10 * time.Minute

func (s *session) drain(c *cli.Context) error {
	cfg, err := s.ownWorkspace(c)
	if err != nil {
		return err
	}
	o := app.DrainOptions{Config: cfg, Environ: s.env.Environ, For: drainFor, TakeOver: c.Bool("take-over")}
	if !c.Bool("quiet") {
		o.Watches = s.tellWatch
	}
	if given := c.String("for"); given != "" {
		if o.For, err = parseSpan(given); err != nil {
			return usagef("--for: %s", err)
		}
	}
	if o.Classes, err = drainClasses(c, cfg); err != nil {
		return err
	}
	var report app.DrainReport
	err = s.patiently(c.Context, s.unlessServed(c.Context, cfg), func() (err error) {
		report, err = drainOnce(c.Context, o)
		return err
	})
	if err != nil {
		return s.drainedElsewhere(c, cfg, o, err)
	}
	return errors.Join(s.tellDrained(c, cfg, report), s.drainInterrupted(c.Context), nothingTaken(cfg))
}

// nothingTaken is an error where the drop folder cannot be used, which from cron nobody
// would hear of otherwise, --quiet or not.
func nothingTaken(cfg config.Config) error {
	if err := app.DropFolderTrouble(cfg.QueueDir); err != nil {
		return &exitError{code: exitFailed, msg: fmt.Sprintf("no file of the drop folder is taken, and no outcome written: %s; what waits in the queue itself was looked after", err)}
	}
	return nil
}

// drainClasses are those that were named; none = all.
func drainClasses(c *cli.Context, cfg config.Config) (classes []string, err error) {
	for _, name := range c.StringSlice("class") {
		if err := emptyClass(true, name); err != nil {
			return nil, err
		}
		if err := checkClass(cfg, name); err != nil {
			return nil, err
		}
		k, err := cfg.Class(name)
		if err != nil {
			return nil, err
		}
		classes = append(classes, k.Name)
	}
	return classes, nil
}

// drainOnce owns the queue only if there is something to do.
func drainOnce(ctx context.Context, o app.DrainOptions) (app.DrainReport, error) {
	found, waiting, err := app.Worthwhile(ctx, o.Config, o.For, o.Classes)
	if _, owned := app.OwnedBy(err); owned && o.TakeOver {
		found, err = true, nil // that is what it is for
	}
	if err != nil || !found {
		return app.DrainReport{Reason: app.Finished, Waiting: waiting}, err
	}
	return app.Drain(ctx, o)
}

// drainedElsewhere makes an end without a fault of it that somebody else owns the
// queue, if that one lives: it is being done. From cron nobody would hear otherwise that
// nothing has been done since a host has gone, or since somebody has typed Ctrl-Z.
func (s *session) drainedElsewhere(c *cli.Context, cfg config.Config, o app.DrainOptions, err error) error {
	owner, ok := app.OwnedBy(err)
	if !ok {
		return err
	}
	if busy, ok := app.BusyOf(err); ok && busy.Holder.Suspended {
		return task.Errorf(task.CodeUnavailable, "%w, and is suspended; nothing was done: kill -CONT %d lets it go on", owner, busy.Holder.PID)
	}
	lives, lookErr := app.OwnerLives(c.Context, owner, s.signOfLife, o.Watches)
	s.err.settle()
	if lookErr != nil {
		return lookErr
	}
	if !lives {
		return task.Errorf(task.CodeUnavailable, "%w, and gives no sign of life; nothing was done. Look on that host; if it is gone for good: %s %s %s --take-over begins with a copy of the queue",
			owner, Program, cmdDrain, pasteable(cfg.Args()))
	}
	if c.Bool("json") {
		return writeJSON(s.out, jsonDrain{Reason: "somebody else does it", Owner: owner.Error(), Ended: map[string]int{}})
	}
	if !c.Bool("quiet") {
		s.out.printf("nothing done for %s: %s\n", cfg, oneLine(owner.Error()))
	}
	return nil
}

// drainInterrupted makes Ctrl-C an interruption. SIGTERM is how a daemon that starts asks
// for the queue, and no failure.
func (s *session) drainInterrupted(ctx context.Context) error {
	if !interrupted(ctx) || interruptCode(ctx) != exitInterrupted {
		return nil
	}
	return &exitError{code: exitInterrupted}
}

// tellDrained prints one line. Where nothing was done it is for people only: cron would
// send it by mail.
func (s *session) tellDrained(c *cli.Context, cfg config.Config, r app.DrainReport) error {
	if c.Bool("json") {
		j := jsonDrain{Reason: string(r.Reason), Ended: map[string]int{}, Running: r.Running, Waiting: r.Waiting, Rejected: r.Rejected, TookMS: r.Took.Milliseconds()}
		for state, n := range r.Ended {
			j.Ended[state.String()] = n
		}
		return writeJSON(s.out, j)
	}
	parts, bad := drainWords(r, oneLine(filepath.Join(cfg.QueueDir, "rejected")))
	if c.Bool("quiet") && !bad {
		return nil
	}
	if len(parts) == 0 {
		if !c.Bool("quiet") && nothingHere(cfg) {
			s.err.printf("note: there is neither a queue nor a drop folder in %s, so there was nothing to do; if that is the wrong folder, --workspace names another\n", cfg)
		} else if s.out.tty {
			s.out.printf("nothing to do for %s%s\n", cfg, leftWaiting(r.Waiting))
		}
		return nil
	}
	s.out.printf("drained %s in %s: %s%s\n", cfg, span(r.Took), strings.Join(parts, ", "), whichEnded(r, cfg))
	return nil
}

// nothingHere says whether nothing was ever left in the workspace for anybody to run, which
// in a crontab is most often a slip: it would do nothing for ever. It is no failure, since
// the first task may be to come.
func nothingHere(cfg config.Config) bool {
	_, err := os.Stat(filepath.Join(cfg.QueueDir, "pending"))
	return errors.Is(err, fs.ErrNotExist) && !app.QueuePresent(cfg.QueueDir)
}

// whichEnded says what lists the tasks that did not succeed, as the end of a sentence: in a
// mail from cron the reader is in no workspace.
func whichEnded(r app.DrainReport, cfg config.Config) string {
	var states []string
	for _, state := range task.States {
		if r.Ended[state] > 0 && state != task.Succeeded {
			states = append(states, state.String())
		}
	}
	if states == nil {
		return ""
	}
	return fmt.Sprintf("; %s ps %s --state %s lists them", Program, pasteable(cfg.Args()), strings.Join(states, ","))
}

// leftWaiting is the end of a sentence.
func leftWaiting(n int) string {
	switch n {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf(": the one task that waits cannot be started now; %[1]s ps shows it, and %[1]s why ID says for what it waits", Program)
	default:
		return fmt.Sprintf(": none of the %d tasks that wait can be started now; %[2]s ps shows them, and %[2]s why ID says for what one waits", n, Program)
	}
}

// drainWords says what came of it; bad = something of it is to be looked at. Why a file
// was rejected stands in the folder rejected.
func drainWords(r app.DrainReport, rejected string) (parts []string, bad bool) {
	for _, state := range task.States {
		if n := r.Ended[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
			bad = bad || state != task.Succeeded
		}
	}
	if r.Running > 0 {
		parts = append(parts, fmt.Sprintf("%d still running", r.Running))
	}
	if len(parts) > 0 && r.Waiting > 0 {
		parts = append(parts, fmt.Sprintf("%d waiting", r.Waiting))
	}
	if r.Rejected > 0 {
		parts, bad = append(parts, fmt.Sprintf("%s of the drop folder rejected (%s says why)", count(int64(r.Rejected), "file"), rejected)), true
	}
	return parts, bad
}
