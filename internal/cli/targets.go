package cli

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// targetFlags are those of commands that are about any number of tasks.
func targetFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "state", Usage: "all tasks in `STATE`, as for ps"},
		&cli.StringFlag{Name: "class", Usage: "all tasks of `CLASS`"},
		&cli.StringFlag{Name: "from-file", Usage: "the tasks whose ids are in `FILE`, one per line; - is the standard input"},
		boolFlag("dry-run", "only say which tasks are meant"),
	}
}

// targets says which tasks a command is about.
type targets struct {
	ids      []string   // that were named, each once
	prefixes []string   // that were named: each means all tasks whose ids begin so
	chosen   *selection // by --state or --class; then there are no ids
}

// isPrefix says whether an argument means all tasks whose ids begin so. No id ends with a
// slash.
func isPrefix(arg string) bool { return len(arg) > 1 && strings.HasSuffix(arg, "/") }

// wanted reads which tasks are meant. states are those that --class alone means.
func (s *session) wanted(c *cli.Context, cfg config.Config, states []string) (targets, error) {
	prefixes := slices.DeleteFunc(c.Args().Slice(), func(arg string) bool { return !isPrefix(arg) })
	byChoice, byName := c.IsSet("state") || c.IsSet("class"), c.NArg() > len(prefixes) || c.IsSet("from-file")
	switch {
	case byChoice && byName:
		return targets{}, usagef("%s takes ids, or --state and --class, not both", c.Command.Name)
	case byName && len(prefixes) > 0:
		return targets{}, usagef("%s takes ids, or beginnings of ids such as %s, not both at once", c.Command.Name, prefixes[0])
	case byChoice, len(prefixes) > 0:
		sel, err := newSelection(c, cfg)
		if len(sel.states) == 0 {
			sel.states = states
		}
		if len(prefixes) > 0 && !c.IsSet("state") && c.Command.Name == cmdWait {
			sel.states = nil // how those ended that have ended counts, too
		}
		return targets{chosen: &sel, prefixes: eachOnce(prefixes)}, err
	case !byName:
		return targets{}, usagef("%s takes the ids of one or more tasks, the beginning of ids up to a slash (exp/), or --state, --class or --from-file; %s ps lists them", c.Command.Name, Program)
	case slices.Contains(c.Args().Slice(), ""):
		return targets{}, usagef("%s was given an empty id; is a variable of the shell not set?", c.Command.Name)
	}
	ids := c.Args().Slice()
	if c.IsSet("from-file") {
		more, err := s.readIDs(c.String("from-file"))
		if err != nil {
			return targets{}, err
		}
		ids = append(ids, more...)
	}
	return targets{ids: eachOnce(ids)}, nil
}

// eachOnce returns the words in order, without those that came before.
func eachOnce(words []string) []string {
	seen := make(map[string]bool, len(words))
	return slices.DeleteFunc(words, func(w string) bool {
		had := seen[w]
		seen[w] = true
		return had
	})
}

// many says whether the tasks were not named one by one, so that a summary says
// more than a line for each.
func (t targets) many() bool { return t.chosen != nil || len(t.ids) > 1 }

// resolve returns the tasks that are meant at this moment, oldest first where they
// were chosen. Of those that were named only the ids are known.
func (t targets) resolve(ctx context.Context, cl *client) ([]*pb.TaskInfo, error) {
	if t.chosen == nil {
		out := make([]*pb.TaskInfo, len(t.ids))
		for i, id := range t.ids {
			out[i] = &pb.TaskInfo{Id: id}
		}
		return out, nil
	}
	found, err := t.fetch(ctx, cl)
	slices.Reverse(found)
	return found, err
}

// fetch returns those that were chosen, newest first. That a beginning is one of no id at
// all is an error, as it is of an id: what is waited for would seem to have been done.
func (t targets) fetch(ctx context.Context, cl *client) ([]*pb.TaskInfo, error) {
	if len(t.prefixes) == 0 {
		found, _, err := fetch(ctx, cl, *t.chosen)
		return found, err
	}
	var all []*pb.TaskInfo
	seen := map[string]bool{}
	for _, prefix := range t.prefixes {
		sel := *t.chosen
		sel.prefix = prefix
		found, _, err := fetch(ctx, cl, sel)
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			if one, _, err := fetch(ctx, cl, selection{prefix: prefix, limit: 1}); err != nil || len(one) == 0 {
				return nil, cmp.Or(err, task.Errorf(task.CodeNotFound, "there is no task whose id begins with %s", prefix))
			}
		}
		for _, info := range found { // one beginning may be that of another
			if !seen[info.GetId()] {
				seen[info.GetId()] = true
				all = append(all, info)
			}
		}
	}
	slices.SortFunc(all, func(a, b *pb.TaskInfo) int { return cmp.Compare(b.GetSeq(), a.GetSeq()) })
	return all, nil
}

// describe says which tasks are meant, behind a noun.
func (t targets) describe() string {
	sel := *t.chosen
	sel.prefix = strings.Join(t.prefixes, " or ")
	return sel.describe()
}

// getTasks asks for many tasks at a time. Those that there are not are left out.
func getTasks(ctx context.Context, cl *client, ids []string) ([]*pb.TaskInfo, error) {
	var out []*pb.TaskInfo
	for chunk := range slices.Chunk(ids, pageSize) {
		answer, err := cl.GetTasks(ctx, &pb.GetTasksRequest{TaskIds: chunk})
		if task.CodeOf(err) == task.CodeUnsupported { // a daemon that was started before it knew this call
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		out = append(out, answer.GetTasks()...)
	}
	return out, nil
}

// lookUp completes the tasks of which only the ids are known, as far as they are there.
func lookUp(ctx context.Context, cl *client, tasks []*pb.TaskInfo) error {
	found, err := getTasks(ctx, cl, idsOf(tasks))
	if err != nil {
		return err
	}
	known := make(map[string]*pb.TaskInfo, len(found))
	for _, t := range found {
		known[t.GetId()] = t
	}
	for i, t := range tasks {
		if now := known[t.GetId()]; now != nil {
			tasks[i] = now
		}
	}
	return nil
}

// readIDs reads a file of ids, one per line.
func (s *session) readIDs(name string) ([]string, error) {
	in := s.env.Stdin
	if name != "-" {
		if !filepath.IsAbs(name) {
			name = filepath.Join(s.env.Cwd, name)
		}
		f, err := os.Open(name)
		if err != nil {
			return nil, usagef("--from-file: cannot read %s: %s", name, rootCause(err))
		}
		defer f.Close()
		in = f
	}
	return scanIDs(in)
}

func scanIDs(in io.Reader) ([]string, error) {
	var ids []string
	lines := bufio.NewScanner(in)
	for n := 1; lines.Scan(); n++ {
		id := strings.TrimSpace(lines.Text())
		if id == "" {
			continue
		}
		if err := task.ValidateID(id); err != nil {
			return nil, usagef("--from-file: line %d: %s; nothing was done", n, err)
		}
		ids = append(ids, id)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the ids of --from-file: %w; nothing was done", err)
	}
	return ids, nil
}

// unfinished are the states of tasks that have not ended.
func unfinished() []string { return append([]string{task.Pending.String()}, activeStates()...) }
