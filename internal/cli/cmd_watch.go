package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// watch is ps --watch. It follows the daemon's events, so that a queue in which
// nothing happens costs nothing.
func (s *session) watch(ctx context.Context, cl *client, sel selection, asJSON bool) error {
	var err error
	if s.out.control() && !asJSON {
		err = s.watchScreen(ctx, cl, sel)
	} else {
		err = s.follow(ctx, cl, nil, func(ev *pb.SystemEvent) error { return s.tellEvent(sel, ev, asJSON) })
	}
	if interrupted(ctx) {
		return nil // this is how watching ends
	}
	return err
}

// follow calls fn for every event from now on. A daemon that is restarted is
// waited for, and no event is missed: they are numbered, and before the first one
// the time tells. away is that of absence.
func (s *session) follow(ctx context.Context, cl *client, away func(), fn func(*pb.SystemEvent) error) error {
	gone := absence{s: s, cl: cl, away: away}
	began := s.now()
	req := &pb.StreamEventsRequest{}
	for {
		err := followOnce(ctx, cl, req, func(ev *pb.SystemEvent) error {
			if req.GetSinceTimestamp() != 0 && eventTime(ev) < began.UnixNano() {
				return nil // of the same second, and before
			}
			req.AfterIndex, req.SinceTimestamp = ev.GetIndex(), 0
			return fn(ev)
		})
		if err := gone.over(ctx, err); err != nil {
			return err
		}
		if req.GetAfterIndex() == 0 {
			req.SinceTimestamp = began.Unix()
		}
	}
}

// followOnce calls fn for the events of one stream. It never returns nil: the
// stream of events has no end of its own.
func followOnce(ctx context.Context, cl *client, req *pb.StreamEventsRequest, fn func(*pb.SystemEvent) error) error {
	stream, err := cl.StreamEvents(ctx, req)
	if err != nil {
		return err
	}
	for {
		ev, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return task.Errorf(task.CodeUnavailable, "the daemon ended the stream of events")
		}
		if err != nil {
			return err
		}
		if err := fn(ev); err != nil {
			return err
		}
	}
}

// tellEvent prints one change for a program: an object, or a line with tabs.
func (s *session) tellEvent(sel selection, ev *pb.SystemEvent, asJSON bool) error {
	if !strings.HasPrefix(ev.GetEventType(), "task_") {
		return nil
	}
	data := ev.GetData()
	if !strings.HasPrefix(ev.GetResourceId(), sel.prefix) || !sel.wants(data["class"], data["state"], data["status"]) {
		return nil
	}
	if asJSON {
		return writeJSONLine(s.out, jsonEvent{
			Index: ev.GetIndex(), At: jsonAt(eventTime(ev)), Event: ev.GetEventType(), ID: ev.GetResourceId(), Data: eventData(data),
		})
	}
	s.out.printf("%s\t%s\t%s\t%s\t%s\n", stamp(eventTime(ev)), ev.GetResourceId(), data["state"], ev.GetEventType(), oneLine(data["error"]))
	return s.out.err
}

// eventData gives what the wire has as text the types that taskJSON gives it. What
// cannot be read stays text: another daemon may say it in another way.
func eventData(data map[string]string) map[string]any {
	out := make(map[string]any, len(data))
	for name, value := range data {
		out[name] = value
		switch name {
		case "attempt", "exit_code":
			if n, err := strconv.ParseInt(value, 10, 32); err == nil {
				out[name] = n
			}
		case "not_before":
			if at, err := time.Parse(time.RFC3339Nano, value); err == nil {
				out[name] = jsonTime(at)
			}
		}
	}
	if out["exit_code"] == int64(-1) {
		delete(out, "exit_code") // there is none
	}
	return out
}

func eventTime(ev *pb.SystemEvent) int64 {
	if ev.GetTimestampNs() != 0 {
		return ev.GetTimestampNs()
	}
	return ev.GetTimestamp() * int64(time.Second)
}

// wants says whether a task of that class and state is of those listed.
func (sel selection) wants(class, state, status string) bool {
	if sel.class != "" && class != sel.class {
		return false
	}
	return len(sel.states) == 0 || slices.Contains(sel.states, state) || slices.Contains(sel.states, status)
}

// How often the screen is drawn at most when much happens, and at least, since
// ages and window sizes change by themselves.
const (
	redrawAtMost  = 250 * time.Millisecond
	redrawAtLeast = time.Second
)

// Control sequences of terminals since the VT100.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l" // the other screen, without a cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	cursorHome  = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
)

// watchScreen shows the list on the terminal's other screen, and leaves the last
// one behind.
func (s *session) watchScreen(ctx context.Context, cl *client, sel selection) error {
	ctx, stop := context.WithCancel(ctx)
	changed := make(chan struct{}, 1)
	ended := make(chan error, 1)
	redrawSoon := func() {
		select {
		case changed <- struct{}{}:
		default: // a redraw is due already
		}
	}
	go func() {
		ended <- s.follow(ctx, cl, redrawSoon, func(*pb.SystemEvent) error {
			redrawSoon()
			return nil
		})
	}()
	s.out.printf(enterScreen)
	var frame watchFrame
	err := s.redraw(ctx, cl, sel, &frame, changed, ended)
	stop()
	<-ended //nolint:errcheck // redraw has returned it, or the interrupt is the reason
	s.out.printf(leaveScreen)
	if frame.tasks != nil {
		s.taskGrid(frame.tasks).write(s.out)
		if frame.more != "" {
			s.out.printf("%s\n", s.out.paint(dim, frame.more))
		}
	}
	return err
}

// redraw draws until the context or the events end; what it takes from ended it
// puts back, for the caller to wait for.
func (s *session) redraw(ctx context.Context, cl *client, sel selection, frame *watchFrame, changed <-chan struct{}, ended chan error) error {
	fresh, age := time.NewTicker(redrawAtMost), time.NewTicker(redrawAtLeast)
	defer fresh.Stop()
	defer age.Stop()
	dirty := true
	for {
		if dirty {
			err := frame.fetch(ctx, cl, sel, s.rows())
			frame.stale = task.CodeOf(err) == task.CodeUnavailable
			if err != nil && !frame.stale {
				return err
			}
			// Look again in a moment: the events end if it stays away, and tell nothing of images.
			dirty = frame.stale || frame.fetching()
		}
		s.draw(frame)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-ended:
			ended <- err
			return err
		case <-age.C:
			continue
		case <-changed:
			dirty = true
		}
		select { // let what comes together be drawn together
		case <-fresh.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// rows is how many tasks fit on the screen, under the summary and the header.
func (s *session) rows() int {
	_, rows := s.out.size()
	return max(rows-4, 1)
}

// watchedImages is how many images that are not there yet are shown at most.
const watchedImages = 3

// watchFrame is what the screen shows.
type watchFrame struct {
	tasks  []*pb.TaskInfo    // the active ones first
	more   string            // how many are not shown; "" = all are
	images []*pb.NeededImage // that tasks wait for
	health *pb.HealthResponse
	stale  bool // the daemon went away; this is what it said last
}

func (f *watchFrame) fetch(ctx context.Context, cl *client, sel selection, rows int) error {
	f.images = nil
	if answer, err := cl.ListImages(ctx, &pb.ListImagesRequest{}); err == nil { // an older daemon has no such list
		waiting := slices.DeleteFunc(answer.GetImages(), func(i *pb.NeededImage) bool { return i.GetState() != "waiting" })
		f.images = waiting[:min(len(waiting), watchedImages)]
	}
	if rows = max(rows-len(f.images), 1); sel.limit == 0 || sel.limit > rows {
		sel.limit = rows
	}
	first, err := fetchActive(ctx, cl, sel)
	if err != nil {
		return err
	}
	tasks, more, err := fetch(ctx, cl, sel)
	if err != nil {
		return err
	}
	if f.health, err = cl.Health(ctx, &pb.HealthRequest{}); err != nil {
		return err
	}
	f.tasks, f.more = activeFirst(first, tasks), ""
	if more = more || len(f.tasks) > sel.limit; more {
		f.tasks = f.tasks[:min(len(f.tasks), sel.limit, max(rows-1, 1))] // a line says so
		f.more = moreText(f.health, sel, len(f.tasks))
	}
	return nil
}

// fetchActive returns those of the selected tasks that are active: what runs is what
// people watch, however many were submitted since.
func fetchActive(ctx context.Context, cl *client, sel selection) ([]*pb.TaskInfo, error) {
	states := activeStates()
	if len(sel.states) > 0 {
		states = slices.DeleteFunc(states, func(st string) bool { return !slices.Contains(sel.states, st) })
	}
	if len(states) == 0 {
		return nil, nil
	}
	sel.states = states
	tasks, _, err := fetch(ctx, cl, sel)
	return tasks, err
}

// activeFirst returns the active tasks, and then the others among the newest.
func activeFirst(active, newest []*pb.TaskInfo) []*pb.TaskInfo {
	out := slices.Clone(active)
	for _, t := range newest {
		if !slices.ContainsFunc(active, func(a *pb.TaskInfo) bool { return a.GetId() == t.GetId() }) {
			out = append(out, t)
		}
	}
	return out
}

// fetching says whether an image is on its way.
func (f *watchFrame) fetching() bool { return len(f.images) > 0 }

// draw writes one frame in one write, so that it does not flicker.
func (s *session) draw(f *watchFrame) {
	cols, _ := s.out.size()
	var buf bytes.Buffer
	page := *s.out
	page.w = &buf
	var totals []string
	for _, col := range queueColumns {
		var n int64
		for _, k := range f.health.GetClasses() {
			n += sumStates(k, col.states)
		}
		totals = append(totals, humanize.Comma(n)+" "+strings.ToLower(col.title))
	}
	line := strings.Join(totals, "  ") + "  (Ctrl-C ends)"
	if f.stale { // first, where a narrow terminal shows it
		line = "waiting for the daemon...  " + strings.Join(totals, "  ")
	}
	page.printf("%s\n", page.clip(line, cols))
	for _, i := range f.images {
		page.printf("%s\n", page.clip(oneLine("image "+i.GetImage()+" "+i.GetDetail()), cols))
	}
	page.printf("\n")
	s.taskGrid(f.tasks).render(&page, cols)
	if f.more != "" {
		page.printf("%s\n", page.paint(dim, page.clip(f.more, cols)))
	}
	frame := cursorHome + strings.ReplaceAll(buf.String(), "\n", clearLine+"\r\n") + clearBelow
	s.out.printf("%s", frame)
}
