package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/app"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// queueAction is one of the words that may follow queue.
type queueAction struct {
	name  string
	takes string   // its arguments, for the help; "" = none
	flags []string // beside --json
	help  string
	run   func(s *session, c *cli.Context, args []string) error
}

// queueActionTable lists them, in the order of the help.
func queueActionTable() []queueAction {
	return []queueAction{
		{"stats", "", nil, "for each class how many tasks wait and for what, run, and ended how, and how long they wait", (*session).queueStats},
		{"verify", "", nil, "look at all of the database and change nothing; ends with 1 if anything is wrong", (*session).queueVerify},
		{"backup", "FILE", nil, "write a copy, as it is at one moment; the daemon may go on", (*session).queueBackup},
		{"restore", "FILE", []string{"force", "damaged"}, "make a queue of a backup; unfinished tasks are held until release", (*session).queueRestore},
		{"repair", "", nil, "make a new database of what a damaged one still holds, and say what is lost; the daemon must not run", (*session).queueRepair},
		{"compact", "", nil, "write the database anew without its free pages; the daemon must not run", (*session).queueCompact},
		{"release", "ID...", []string{"all"}, "let held tasks go", (*session).queueRelease},
	}
}

func queueActions() []action {
	var out []action
	for _, a := range queueActionTable() {
		out = append(out, action{name: a.name, takes: a.takes, flags: append(slices.Clone(a.flags), "json"), help: a.help})
	}
	return out
}

func queueHelp() string {
	var b strings.Builder
	b.WriteString(actionLines(queueActions()))
	b.WriteString("\ndocs/queue.md says what is in the queue's folder, how to look after it, and what each message means.\n\n" +
		"In stats, READY tasks wait for their turn and for room, BLOCKED ones for other tasks, DELAYED ones for the time of\n" +
		"their next attempt, HELD ones for a person. OLDEST is how long the one has waited that has waited longest, WAIT50 and\n" +
		"WAIT95 how long half, and all but one of twenty, of the attempts that began in the last five minutes had waited for\n" +
		"their turn, ENDED/MIN how many tasks ended a minute.")
	return b.String()
}

func queueFlags() []cli.Flag {
	return []cli.Flag{
		jsonFlag(),
		boolFlag("force", "let restore take the place of a queue that is there; that is kept beside it"),
		boolFlag("damaged", "let restore take what is left of a damaged file"),
		boolFlag("all", "let release let all held tasks go"),
	}
}

func (s *session) queueAction(c *cli.Context) error {
	name, args := c.Args().First(), c.Args().Tail()
	all := actionNames(cmdQueue)
	i := slices.Index(all, name)
	switch {
	case name == "":
		return usagef("queue takes one of %s", strings.Join(all, ", "))
	case i < 0:
		return usagef("queue has no %q%s", name, orHint(nearest(name, all), strings.Join(all, ", ")))
	}
	action := queueActionTable()[i]
	for _, flag := range []string{"force", "damaged", "all"} {
		if c.Bool(flag) && !slices.Contains(action.flags, flag) {
			return usagef("--%s does not go with queue %s", flag, name)
		}
	}
	switch {
	case action.takes == "" && len(args) > 0:
		return usagef("queue %s: %q is too much", name, args[0])
	case action.takes == "FILE" && (len(args) != 1 || args[0] == ""):
		return usagef("queue %s takes the name of one file", name)
	}
	return action.run(s, c, args)
}

// care returns what looks after the queue of the workspace.
func (s *session) care(c *cli.Context) (app.Care, config.Config, error) {
	cfg, err := s.config(c)
	if err == nil {
		err = admitted(cfg)
	}
	return app.Care{Dir: cfg.QueueDir, Progress: s.careProgress(), LockTimeout: lockLook, Watches: s.tellWatch}, cfg, err
}

// whenFree does what can only be done when nobody has the queue. Who has it for a moment
// is waited for; what names what was to be done, for those who keep it.
func (s *session) whenFree(ctx context.Context, cfg config.Config, what string, do func() error) error {
	err := s.patiently(ctx, s.unlessServed(ctx, cfg), do)
	s.endProgress()
	return inUse(cfg, what, err)
}

// served does something with the daemon if there is one, and else alone.
func (s *session) served(ctx context.Context, cfg config.Config, asked func(*client) error, alone func() error) error {
	err := s.patiently(ctx, s.patienceWith(ctx, cfg), func() error {
		cl, err := s.dial(ctx, cfg, false)
		if err == nil {
			defer func() { _ = cl.close() }()
			return asked(cl)
		}
		if cfg.GRPCAddr != "" || !errors.Is(err, api.ErrNoDaemon) {
			return err
		}
		return alone()
	})
	s.endProgress()
	if busy, ok := errors.AsType[*app.BusyError](err); ok {
		return unavailable(cfg, busy)
	}
	return err
}

// progressEvery is how often a person is told how far it is.
const progressEvery = 100 * time.Millisecond

// careProgress tells a person how far a long piece of work is; nil for a program.
func (s *session) careProgress() func(step string, done, total int64) {
	if !s.err.control() {
		return nil
	}
	var last time.Time
	return func(step string, done, total int64) {
		now := s.now()
		if now.Sub(last) < progressEvery {
			return
		}
		last = now
		text := step
		if total > 0 {
			text += fmt.Sprintf(" %d%%", percent(done, total))
		}
		s.err.printf("\r\x1b[K%s", text)
	}
}

// endProgress removes what careProgress has left on the line.
func (s *session) endProgress() {
	if s.err.control() {
		s.err.printf("\r\x1b[K")
	}
}

func percent(part, whole int64) int64 {
	if whole <= 0 {
		return 0
	}
	return min(100, part*100/whole)
}

// inUse turns the error of a queue that somebody has open into one that says what to
// do, for what can only be done when nobody has.
func inUse(cfg config.Config, what string, err error) error {
	busy, ok := errors.AsType[*app.BusyError](err)
	switch {
	case !ok:
		return err
	case ownerElsewhere(cfg) != nil:
		return unavailable(cfg, busy)
	case busy.Holder.Suspended:
		return task.Errorf(task.CodeConflict, "%w; it is suspended: kill -CONT %d lets it go on, and when it has ended, %s the queue", busy, busy.Holder.PID, what)
	case busy.Holder.Command, busy.Holder.Nameless:
		return task.Errorf(task.CodeConflict, "%w; %s the queue when that has ended", busy, what)
	}
	return task.Errorf(task.CodeConflict, "%w; to %s it, stop that first: %s stop %s", busy, what, Program, pasteable(cfg.Args()))
}

// fileArg is a file that was named, from the current folder.
func (s *session) fileArg(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(s.env.Cwd, name)
}

// holdingsText says how much a database holds.
func holdingsText(tasks, unfinished, tombstones, events int) string {
	have := "have"
	if unfinished == 1 {
		have = "has"
	}
	text := fmt.Sprintf("%s, of which %s %s not ended", count(int64(tasks), "task"), humanize.Comma(int64(unfinished)), have)
	if tombstones > 0 {
		text += fmt.Sprintf(", the ids of %s that were removed", humanize.Comma(int64(tombstones)))
	}
	return text + ", " + count(int64(events), "event")
}
