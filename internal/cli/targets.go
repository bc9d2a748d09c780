package cli

import (
	"bufio"
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
	ids    []string   // that were named, each once
	chosen *selection // by --state or --class; then there are no ids
}

// wanted reads which tasks are meant. states are those that --class alone means.
func (s *session) wanted(c *cli.Context, cfg config.Config, states []string) (targets, error) {
	byChoice, byName := c.IsSet("state") || c.IsSet("class"), c.NArg() > 0 || c.IsSet("from-file")
	switch {
	case byChoice && byName:
		return targets{}, usagef("%s takes ids, or --state and --class, not both", c.Command.Name)
	case byChoice:
		sel, err := newSelection(c, cfg)
		if len(sel.states) == 0 {
			sel.states = states
		}
		return targets{chosen: &sel}, err
	case !byName:
		return targets{}, usagef("%s takes the ids of one or more tasks, or --state, --class or --from-file; %s ps lists them", c.Command.Name, Program)
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
	found, _, err := fetch(ctx, cl, *t.chosen)
	slices.Reverse(found)
	return found, err
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
