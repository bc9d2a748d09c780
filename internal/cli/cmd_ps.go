package cli

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// psLimit is how many tasks ps shows on a terminal unless told otherwise. A
// program gets them all: it would not see that something is missing.
const psLimit = 50

// pageSize is how many tasks are asked for at a time.
const pageSize = 1000

func (s *session) psCommand() *cli.Command {
	return s.command(cli.Command{
		Name: "ps", Usage: "list tasks, newest first", ArgsUsage: "[PREFIX/]", Category: categorySubmit,
		Description: "In a pipe, columns are separated by tabs, times are RFC 3339 and nothing is cut off.\n" +
			"With --watch a terminal shows the list as it changes, what runs first, and how far images are that tasks wait for; a pipe\n" +
			"gets a line per change.\n" +
			"Ctrl-C is how --watch ends: exit code 0. PREFIX/ means the tasks whose ids begin so, such as\n" +
			"exp/lr-0.1 and exp/lr-0.2 for exp/.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "class", Usage: "only tasks of `CLASS`"},
			&cli.StringSliceFlag{Name: "state", Usage: "only tasks in `STATE`: " + strings.Join(stateWords(), ", ") + "; several with commas, or repeat it"},
			&cli.StringFlag{Name: "name", Usage: "only tasks whose name has `TEXT` in it"},
			&cli.IntFlag{Name: "limit", Aliases: []string{"n"}, Usage: "at most `N` tasks; 0 for all", DefaultText: fmt.Sprintf("%d on a terminal, else all", psLimit)},
			boolFlag("watch", "go on showing what changes, until Ctrl-C", "w"),
			jsonFlag(),
		},
		Action: s.ps,
	})
}

// selection says which tasks a listing shows.
type selection struct {
	class  string
	states []string
	prefix string // of the id
	name   string // what the name has in it
	limit  int    // 0: all
}

func (s *session) ps(c *cli.Context) error {
	prefix := c.Args().First()
	if c.NArg() > 1 || c.NArg() == 1 && !isPrefix(prefix) {
		return usagef("ps takes no ids, but the beginning of ids up to a slash, as in: %s ps exp/; %s show ID tells of one task", Program, Program)
	}
	cfg, err := s.configToCall(c)
	if err != nil {
		return err
	}
	sel, err := newSelection(c, cfg)
	if err != nil {
		return err
	}
	sel.prefix, sel.name = prefix, c.String("name")
	if !c.IsSet("limit") && s.out.tty && !c.Bool("json") {
		sel.limit = psLimit
	}
	needs := reads
	if c.Bool("watch") {
		if sel.name != "" && (!s.out.control() || c.Bool("json")) {
			return usagef("--name does not go with --watch in a pipe: changes do not tell the name")
		}
		needs = needsDaemon // nothing changes without one
	}
	return s.withClient(c, needs, func(ctx context.Context, cl *client) error {
		if c.Bool("watch") {
			return s.watch(ctx, cl, sel, c.Bool("json"))
		}
		err := s.list(ctx, cl, sel, c.Bool("json"))
		if err == nil && len(cl.damaged) > 0 {
			s.tellDamaged(cl.damaged)
		}
		return err
	})
}

func newSelection(c *cli.Context, cfg config.Config) (selection, error) {
	sel := selection{class: c.String("class"), limit: c.Int("limit")}
	if sel.limit < 0 {
		return sel, usagef("--limit is %d; it is a number of tasks, or 0 for all", sel.limit)
	}
	if err := emptyClass(c.IsSet("class"), sel.class); err != nil {
		return sel, err
	}
	if sel.class != "" {
		k, err := cfg.Class(sel.class)
		if err != nil {
			return sel, usagef("%s", err)
		}
		sel.class = k.Name
	}
	for _, given := range c.StringSlice("state") {
		for st := range strings.SplitSeq(strings.ToLower(given), ",") {
			if !slices.Contains(stateWords(), st) {
				return sel, usagef("--state: there is no state %q; known are %s%s", st, strings.Join(stateWords(), ", "), hint(nearest(st, stateWords())))
			}
			sel.states = append(sel.states, st)
		}
	}
	return sel, nil
}

func hint(word string) string {
	if word == "" {
		return ""
	}
	return didYouMean(word, "")
}

// stateWords lists what --state takes: the states, and the one status that is
// not also the name of a state.
func stateWords() []string {
	var out []string
	for _, st := range task.States {
		out = append(out, st.String())
	}
	return append(out, task.WireCompleted)
}

// list prints the selected tasks once.
func (s *session) list(ctx context.Context, cl *client, sel selection, asJSON bool) error {
	switch {
	case asJSON:
		return s.listJSON(ctx, cl, sel)
	case !s.out.tty:
		return s.listLines(ctx, cl, sel)
	}
	tasks, more, err := fetch(ctx, cl, sel)
	if err != nil {
		return err
	}
	if len(tasks) == 0 {
		s.out.printf("no tasks%s in %s\n", sel.describe(), cl.workspace)
		return nil
	}
	s.taskGrid(tasks).write(s.out)
	if more {
		s.out.printf("%s\n", s.out.paint(dim, s.footer(ctx, cl, sel, len(tasks))))
	}
	return nil
}

// listLines prints a line per task, page by page: a queue of a million tasks
// need not fit into memory.
func (s *session) listLines(ctx context.Context, cl *client, sel selection) error {
	first := true
	_, err := eachPage(ctx, cl, sel, func(tasks []*pb.TaskInfo) error {
		g := s.taskGrid(tasks)
		if !first {
			g.header = nil
		}
		first = false
		g.write(s.out)
		return s.out.err
	})
	return err
}

// listJSON prints one array, page by page as listLines does.
func (s *session) listJSON(ctx context.Context, cl *client, sel selection) error {
	var buf bytes.Buffer
	item, last := "", "]\n"
	enc := encoder(&buf)
	if s.out.tty { // as writeJSON would
		item, last = "\n  ", "\n]\n"
		enc.SetIndent("  ", "  ")
	}
	before := "["
	_, err := eachPage(ctx, cl, sel, func(tasks []*pb.TaskInfo) error {
		for _, t := range tasks {
			buf.WriteString(before + item)
			if err := enc.Encode(taskJSON(t, s.now())); err != nil {
				return err
			}
			buf.Truncate(buf.Len() - 1) // the encoder ends every value with a newline
			before = ","
		}
		if !s.out.tty {
			_, err := buf.WriteTo(s.out)
			return err
		}
		_, err := buf.WriteTo(escaping{s.out})
		return err
	})
	switch {
	case err != nil:
		return err
	case before == "[":
		last = "[]\n"
	}
	s.out.printf("%s", last)
	return nil
}

// fetch returns the selected tasks, newest first, and whether there are more.
func fetch(ctx context.Context, cl *client, sel selection) (tasks []*pb.TaskInfo, more bool, err error) {
	more, err = eachPage(ctx, cl, sel, func(page []*pb.TaskInfo) error {
		tasks = append(tasks, page...)
		return nil
	})
	return tasks, more, err
}

// eachPage calls fn with the selected tasks, newest first, at least once, and
// says whether there are more.
func eachPage(ctx context.Context, cl *client, sel selection, fn func([]*pb.TaskInfo) error) (more bool, err error) {
	req := &pb.ListTasksRequest{Class: sel.class, States: sel.states, IdPrefix: sel.prefix, NameContains: sel.name}
	for got := 0; ; {
		req.Limit = pageSize
		if sel.limit > 0 {
			req.Limit = int32(min(pageSize, sel.limit-got))
		}
		page, err := cl.ListTasks(ctx, req)
		if err != nil {
			return false, err
		}
		if err := fn(page.GetTasks()); err != nil {
			return false, err
		}
		got += len(page.GetTasks())
		req.BeforeSeq = page.GetNextBeforeSeq()
		cl.damaged = page.GetDamagedIds()
		if req.BeforeSeq == 0 || sel.limit > 0 && got >= sel.limit {
			return req.BeforeSeq != 0, nil
		}
	}
}

// tellDamaged says of which tasks nothing can be listed, the first few by name.
func (s *session) tellDamaged(ids []string) {
	const most = 3
	names := strings.Join(ids[:min(most, len(ids))], ", ")
	if more := len(ids) - most; more > 0 {
		names += fmt.Sprintf(" and %s more", humanize.Comma(int64(more)))
	}
	s.err.printf("note: what is stored about %s is damaged, and not listed: %s; %s queue verify tells all that is wrong\n",
		count(int64(len(ids)), "task"), oneLine(names), Program)
}

// footer says how many tasks are not shown.
func (s *session) footer(ctx context.Context, cl *client, sel selection, shown int) string {
	h, err := cl.Health(ctx, &pb.HealthRequest{})
	if err != nil {
		h = nil
	}
	return moreText(h, sel, shown) + "; --limit 0: all"
}

// moreText says that more tasks are selected than are shown, and how many where the daemon
// counts such.
func moreText(h *pb.HealthResponse, sel selection, shown int) string {
	if rest := sel.total(h) - int64(shown); rest > 0 && sel.prefix == "" && sel.name == "" {
		return "... and " + humanize.Comma(rest) + " more"
	}
	return "... and more"
}

// total counts the tasks that the selection means.
func (sel selection) total(h *pb.HealthResponse) int64 {
	var n int64
	for _, k := range h.GetClasses() {
		if sel.class != "" && k.GetClass() != sel.class {
			continue
		}
		for name, c := range k.GetStates() {
			st, _ := task.ParseState(name)
			// The words pending, running and failed are states and statuses; the
			// daemon takes them as states.
			if len(sel.states) == 0 || slices.Contains(sel.states, name) ||
				slices.Contains(sel.states, task.WireCompleted) && st == task.Succeeded {
				n += c
			}
		}
	}
	return n
}

func (sel selection) describe() string {
	text := ""
	if sel.prefix != "" {
		text += " whose ids begin with " + sel.prefix
	}
	if sel.name != "" {
		text += " with " + strconv.Quote(sel.name) + " in their name"
	}
	if sel.class != "" {
		text += " of class " + sel.class
	}
	switch {
	case slices.Equal(sel.states, unfinished()):
		text += " that have not ended"
	case len(sel.states) > 0:
		text += " that are " + strings.Join(sel.states, " or ")
	}
	return text
}

// narrow is the width below which every column of a listing counts.
const narrow = 100

// taskGrid lays tasks out as a table.
func (s *session) taskGrid(tasks []*pb.TaskInfo) *grid {
	g := &grid{
		header: []string{"ID", "NAME", "CLASS", "STATE", "TRY", "SUBMITTED", "RAN", "DETAIL"},
		right:  []int{4, 6}, whole: []int{3, 5, 6}, drop: []int{2, 4, 5},
	}
	since := ago
	if cols, _ := s.out.size(); s.out.tty && cols < narrow {
		g.header[5], since = "AGE", age
	}
	for _, t := range tasks {
		submitted, took := stamp(t.GetSubmittedAtNs()), ""
		if ranKnown(t) {
			took = strconv.FormatFloat(ran(t, s.now()).Seconds(), 'f', 3, 64)
		}
		if s.out.tty {
			submitted = since(t.GetSubmittedAtNs(), s.now())
			if took != "" {
				took = span(ran(t, s.now()))
			}
		}
		g.add(t.GetId(), oneLine(t.GetName()), t.GetClass(), s.out.state(t.GetState()),
			strconv.Itoa(int(t.GetAttempt())), submitted, took, word(t))
	}
	return g
}
