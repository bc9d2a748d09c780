package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"
	"github.com/urfave/cli/v2"
	"google.golang.org/protobuf/proto"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// A chunk is one commit of the daemon: large enough that its price is spread,
// small enough that others are not held up and that a message has room for it.
const (
	chunkTasks = 500
	chunkBytes = 8 << 20
)

// refusedShown bounds the list of refused tasks on the screen.
const refusedShown = 20

// submitFile is submit --from-file.
func (s *session) submitFile(c *cli.Context, cfg config.Config) error {
	given, err := s.lineDefaults(c, cfg)
	if err != nil {
		return err
	}
	in, origin, err := s.openLines(c.Context, c.String("from-file"))
	if err != nil {
		return err
	}
	defer in.Close()
	lines := &lineReader{s: s, cfg: cfg, origin: origin.name, ambient: ambient(s.env), given: given, file: in, in: bufio.NewReaderSize(in, 1<<20)}
	if err := lines.inOrder(nil); err != nil {
		return err
	}
	order, total, err := checkLines(c.Context, lines)
	if err != nil {
		return err
	}
	needs := s.submitNeeds(c)
	return noQueue(cfg, needs, s.withClient(c, needs, func(ctx context.Context, cl *client) error {
		if err := lines.inOrder(order); err != nil {
			return err
		}
		b := &batch{session: s, cl: cl, bar: s.progress(total), once: origin.once}
		err := b.run(ctx, lines)
		if err := b.report(c.Bool("json"), total, err); err != nil {
			return err
		}
		s.remind(cl, "they are on disk, and nothing runs them yet")
		return nil
	}))
}

// origin is what the ids of lines without one begin with.
type origin struct {
	name string
	// once: it is of this run alone. What comes through a pipe has no place that would tell
	// whether it is the same again, so it is new tasks each time.
	once bool
}

// openLines opens the file. What can be read only once is kept in a temporary file, since
// all lines are checked before the first is submitted.
func (s *session) openLines(ctx context.Context, name string) (*os.File, origin, error) {
	if name == "-" {
		return s.spooled(s.env.Stdin)
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(s.env.Cwd, name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, origin{}, usagef("cannot read %s: %s", name, rootCause(err))
	}
	if info, err := f.Stat(); err == nil && !info.Mode().IsRegular() {
		defer f.Close()
		if info.IsDir() {
			return nil, origin{}, usagef("%s is a folder, not a file of tasks", name)
		}
		return s.spooled(interruptible(ctx, f))
	}
	return f, origin{name: name}, nil
}

// spooled keeps what comes through a pipe.
func (s *session) spooled(r io.Reader) (*os.File, origin, error) {
	once, err := s.ids.Next(s.now())
	if err != nil {
		return nil, origin{}, err
	}
	f, err := spool(r)
	return f, origin{name: once, once: true}, err
}

func spool(r io.Reader) (*os.File, error) {
	f, err := os.CreateTemp("", "dspy-agent-tasks-*")
	if err != nil {
		return nil, fmt.Errorf("make a temporary file: %w", err)
	}
	err = os.Remove(f.Name()) // it goes when we do, however that happens
	if err == nil {
		_, err = io.Copy(f, r)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("keep the tasks in a temporary file: %w", err), f.Close())
	}
	return f, nil
}

// checkLines reads all lines, and returns in which order to submit them, nil for that of
// the file, and how many tasks they are. It goes on after a bad one, since whoever made one
// slip in a program made it in many.
func checkLines(ctx context.Context, r *lineReader) (order []lineAt, total int, err error) {
	var graph lineGraph
	var bad badLines
	for {
		l, err := r.next()
		if line, ok := errors.AsType[*badLineError](err); ok {
			bad.add(line)
			continue
		}
		switch {
		case errors.Is(err, io.EOF):
			return graph.checked(&bad)
		case err != nil:
			return nil, 0, fmt.Errorf("%w; nothing was submitted", err)
		case interrupted(ctx):
			return nil, 0, ctx.Err()
		}
		if earlier := graph.add(l, r.at); earlier != 0 {
			bad.add(&badLineError{l.number, fmt.Errorf("id %s is that of line %d already", l.req.Id, earlier)})
		}
	}
}

// checked is the end of checkLines, where all lines have been read.
func (g *lineGraph) checked(bad *badLines) (order []lineAt, total int, err error) {
	switch err := bad.complain(); {
	case err != nil:
		return nil, 0, err
	case len(g.lines) == 0:
		return nil, 0, usagef("the file has no tasks")
	}
	order, err = g.order()
	return order, len(g.lines), err
}

// badLinesShown bounds the list of bad lines on the screen.
const badLinesShown = 10

// badLines are the lines of a file that are no tasks: the first of them, and
// how many.
type badLines struct {
	first   []*badLineError
	count   int
	refused int // those that are right, and that this release cannot do
}

func (b *badLines) add(line *badLineError) {
	if b.count++; b.count <= badLinesShown {
		b.first = append(b.first, line)
	}
	if task.CodeOf(line.err) == task.CodeUnsupported {
		b.refused++
	}
}

// complain is the error about the lines; nil if none is bad. A file of which
// nothing is wrong but what comes later ends as a single such task does.
func (b *badLines) complain() error {
	switch b.count {
	case 0:
		return nil
	case b.refused:
		return task.Errorf(task.CodeUnsupported, "%s", b.text())
	}
	return usagef("%s", b.text())
}

// text is what to say about the lines.
func (b *badLines) text() string {
	if b.count == 1 {
		return fmt.Sprintf("%s; nothing was submitted", b.first[0])
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s of the file are no tasks; nothing was submitted", count(int64(b.count), "line"))
	for _, line := range b.first {
		fmt.Fprintf(&text, "\n  %s", oneLine(line.Error()))
	}
	if rest := b.count - len(b.first); rest > 0 {
		fmt.Fprintf(&text, "\n  ... and %s", count(int64(rest), "more line"))
	}
	return text.String()
}

// progress shows how far a long submission is, to a person.
func (s *session) progress(total int) *progressbar.ProgressBar {
	if !s.err.tty || total <= chunkTasks {
		return progressbar.DefaultSilent(int64(total))
	}
	return progressbar.NewOptions(total,
		progressbar.OptionSetWriter(s.err), progressbar.OptionSetDescription("submitting"), progressbar.OptionShowCount(),
		progressbar.OptionSetPredictTime(true), progressbar.OptionSetWidth(30), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetTheme(progressbar.Theme{Saucer: "=", SaucerHead: ">", SaucerPadding: " ", BarStart: "[", BarEnd: "]"}),
		progressbar.OptionClearOnFinish())
}

// batch is a file of tasks on its way to the daemon.
type batch struct {
	session *session
	cl      *client
	bar     *progressbar.ProgressBar
	once    bool // ids that were made for lines are of this run alone

	chunk []taskLine
	bytes int
	done  jsonBatch
	// Of the tasks that were accepted and cannot start: how many, and the first.
	warned    int
	firstWarn string
}

func (b *batch) run(ctx context.Context, r *lineReader) error {
	b.done = jsonBatch{Refused: []jsonRefused{}, IDs: []string{}}
	for {
		l, err := r.next()
		if errors.Is(err, io.EOF) {
			err = b.flush(ctx)
			_ = b.bar.Finish()
			return err
		}
		if err != nil {
			return err // the file was changed after it was checked
		}
		size := proto.Size(l.req)
		if len(b.chunk) == chunkTasks || b.bytes+size > chunkBytes {
			if err := b.flush(ctx); err != nil {
				return err
			}
		}
		b.chunk = append(b.chunk, l)
		b.bytes += size
	}
}

func (b *batch) flush(ctx context.Context) error {
	if len(b.chunk) == 0 {
		return nil
	}
	req := &pb.SubmitTasksRequest{}
	for _, l := range b.chunk {
		req.Tasks = append(req.Tasks, l.req)
	}
	answer, err := b.send(ctx, req)
	if err != nil {
		return err
	}
	for i, r := range answer.GetResults() {
		b.note(b.chunk[i].number, r.GetWarning())
		switch {
		case !r.GetSuccess():
			why := r.GetError() + conditionHint(r.GetError(), b.chunk[i].req.GetSpec().GetAfter())
			b.done.Refused = append(b.done.Refused, jsonRefused{ID: r.GetTaskId(), Line: b.chunk[i].number, Code: r.GetCode(), Error: why})
			continue
		case r.GetExisting():
			b.done.Existing++
		default:
			b.done.Accepted++
		}
		b.done.IDs = append(b.done.IDs, r.GetTaskId())
	}
	_ = b.bar.Add(len(b.chunk))
	b.chunk, b.bytes = b.chunk[:0], 0
	return nil
}

// note keeps a warning for the report: a file has them in one line or in all.
func (b *batch) note(line int, warning string) {
	if warning == "" {
		return
	}
	if b.warned++; b.warned == 1 {
		b.firstWarn = fmt.Sprintf("line %d: %s", line, oneLine(warning))
	}
}

// tellWarned says of how many tasks nothing will come.
func (b *batch) tellWarned() {
	if b.warned > 0 {
		b.session.err.printf("warning: %s cannot start as things are; the first of them, %s\n", count(int64(b.warned), "task"), b.firstWarn)
	}
}

// send submits a chunk, once more when the connection broke before the answer: the
// lines have ids, so that nothing is submitted twice.
func (b *batch) send(ctx context.Context, req *pb.SubmitTasksRequest) (*pb.SubmitTasksResponse, error) {
	answer, err := b.cl.SubmitTasks(ctx, req)
	if !unanswered(ctx, err) {
		return answer, err
	}
	gone := absence{s: b.session, cl: b.cl}
	if err := gone.over(ctx, err); err != nil {
		return nil, err
	}
	return b.cl.SubmitTasks(ctx, req)
}

// report says what became of the file. An error in the middle says how far it
// came, and that the command can be repeated.
func (b *batch) report(asJSON bool, total int, err error) error {
	s := b.session
	if asJSON {
		if werr := writeJSON(s.out, b.done); werr != nil {
			return werr
		}
	} else if !s.out.tty {
		for _, id := range b.done.IDs {
			s.out.printf("%s\n", id)
		}
	}
	n := len(b.done.Refused)
	slices.SortFunc(b.done.Refused, func(x, y jsonRefused) int { return cmp.Compare(x.Line, y.Line) })
	if err != nil {
		what := "repeat the command: nothing is submitted twice"
		if b.once {
			what = "repeated, it would submit those once more that have no id in their line"
		}
		s.err.printf("%s of %s were submitted before this broke off; %s\n", humanize.Comma(int64(len(b.done.IDs))), count(int64(total), "task"), what)
		return err
	}
	s.err.printf("%s accepted, %s already there, %s refused\n",
		humanize.Comma(int64(b.done.Accepted)), humanize.Comma(int64(b.done.Existing)), humanize.Comma(int64(n)))
	for _, r := range b.done.Refused[:min(n, refusedShown)] {
		s.err.printf("  line %d: %s\n", r.Line, oneLine(r.Error))
	}
	if n > refusedShown {
		s.err.printf("  ... and %s\n", count(int64(n-refusedShown), "more line"))
	}
	b.tellWarned()
	if n > 0 {
		return &exitError{code: exitRefused}
	}
	return nil
}
