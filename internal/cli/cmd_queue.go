package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

const cmdQueue = "queue"

func (s *session) queueCommand() *cli.Command {
	return s.command(cli.Command{
		Name: cmdQueue, Usage: "show how the queue is, and look after its database", Category: categoryDaemon,
		ArgsUsage:   "stats | verify | backup FILE | restore FILE | repair | compact | release ID...",
		Description: queueHelp(),
		Flags:       queueFlags(),
		Action:      s.queueAction,
	})
}

func (s *session) queueStats(c *cli.Context, _ []string) error {
	return s.withClient(c, reads, func(ctx context.Context, cl *client) error {
		stats, err := cl.GetQueueStats(ctx, &pb.GetQueueStatsRequest{})
		if err != nil {
			return err
		}
		if c.Bool("json") {
			return writeJSON(s.out, queueJSON(stats))
		}
		s.showStats(cl, stats)
		return nil
	})
}

// statsColumn is a column of the statistics: a text, or how many milliseconds
// something takes or took, 0 where that is not known.
type statsColumn struct {
	title string
	text  func(*pb.ClassStats) string
	took  func(*pb.ClassStats) int64
}

// statsColumns are the columns behind the class.
var statsColumns = []statsColumn{
	{title: "WAITING", text: func(k *pb.ClassStats) string { return number(waitingIn(k)) }},
	{title: "READY", text: func(k *pb.ClassStats) string { return number(k.GetReady()) }},
	{title: "BLOCKED", text: func(k *pb.ClassStats) string { return number(k.GetBlocked()) }},
	{title: "DELAYED", text: func(k *pb.ClassStats) string { return number(k.GetDelayed()) }},
	{title: "HELD", text: func(k *pb.ClassStats) string { return number(k.GetHeld()) }},
	{title: "RUNNING", text: func(k *pb.ClassStats) string { return number(activeIn(k)) }},
	{title: "LIMIT", text: func(k *pb.ClassStats) string { return unlessZero(int64(k.GetParallel())) }},
	{title: "SUCCEEDED", text: func(k *pb.ClassStats) string { return number(k.GetStates()[task.Succeeded.String()]) }},
	{title: "FAILED", text: func(k *pb.ClassStats) string { return number(k.GetStates()[task.Failed.String()]) }},
	{title: "CANCELLED", text: func(k *pb.ClassStats) string { return number(k.GetStates()[task.Cancelled.String()]) }},
	{title: "LOST", text: func(k *pb.ClassStats) string { return number(k.GetStates()[task.Lost.String()]) }},
	{title: "OLDEST", took: func(k *pb.ClassStats) int64 { return k.GetOldestWaitingMs() }},
	{title: "WAIT50", took: func(k *pb.ClassStats) int64 { return k.GetRecent().GetWaitP50Ms() }},
	{title: "WAIT95", took: func(k *pb.ClassStats) int64 { return k.GetRecent().GetWaitP95Ms() }},
	{title: "ENDED/MIN", text: func(k *pb.ClassStats) string { return perMinute(k.GetRecent()) }},
	{title: "PAUSED", text: func(k *pb.ClassStats) string { return yesOrNo(k.GetPaused()) }},
}

// statsDrop are the columns that give way where there is no room, in that order.
var statsDrop = []string{"CANCELLED", "LOST", "WAIT95", "HELD", "DELAYED", "LIMIT", "SUCCEEDED", "FAILED", "OLDEST", "WAIT50", "ENDED/MIN"}

// statsGrid is the table of classes without its rows.
func statsGrid() *grid {
	g := &grid{header: []string{"CLASS"}}
	for i, col := range statsColumns {
		g.header = append(g.header, col.title)
		g.whole = append(g.whole, i+1)
		g.right = append(g.right, i+1)
	}
	for _, title := range statsDrop {
		g.drop = append(g.drop, slices.Index(g.header, title))
	}
	return g
}

func (s *session) showStats(cl *client, stats *pb.QueueStats) {
	g := statsGrid()
	for _, k := range stats.GetClasses() {
		row := []string{oneLine(k.GetName())}
		for _, col := range statsColumns {
			row = append(row, col.cell(s.out.tty, k))
		}
		g.add(row...)
	}
	g.write(s.out)
	if !s.out.tty {
		return // a program asks for the rest with --json
	}
	s.out.printf("\n")
	for _, k := range stats.GetClasses() {
		if k.GetPaused() {
			s.out.printf("%s\n", oneLine(pauseOf(k.GetPausedAtMs(), k.GetPausedBy(), k.GetPausedReason()).Of(k.GetName())))
		}
	}
	size := humanize.IBytes(uint64(stats.GetFileBytes()))
	if !cl.unattended() { // else nobody has counted what is free
		size += fmt.Sprintf(", of which %s (%d%%) are free", humanize.IBytes(uint64(stats.GetFreeBytes())), percent(stats.GetFreeBytes(), stats.GetFileBytes()))
	}
	s.out.printf("database   %s\n", size)
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

func unlessZero(n int64) string {
	if n == 0 {
		return ""
	}
	return number(n)
}

// cell is what the column says of a class: durations for people, or in seconds for a
// program.
func (c statsColumn) cell(people bool, k *pb.ClassStats) string {
	if c.text != nil {
		return c.text(k)
	}
	d := time.Duration(c.took(k)) * time.Millisecond
	switch {
	case d == 0:
		return ""
	case people:
		return span(d)
	}
	return strconv.FormatFloat(d.Seconds(), 'f', 3, 64)
}

func yesOrNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// perMinute is how many tasks ended in a minute of the window.
func perMinute(r *pb.RecentStats) string {
	if r.GetWindowMs() == 0 {
		return ""
	}
	return strconv.FormatFloat(endedPerMinute(r), 'f', 1, 64)
}

func endedPerMinute(r *pb.RecentStats) float64 {
	return float64(r.GetEnded()) / (time.Duration(r.GetWindowMs()) * time.Millisecond).Minutes()
}

// jsonQueue is the answer of queue stats.
type jsonQueue struct {
	QueueID    string      `json:"queue_id" doc:"the queue's own random id"`
	QueueDir   string      `json:"queue_dir" doc:"where the queue is"`
	FileBytes  int64       `json:"file_bytes" doc:"size of its database"`
	FreeBytes  int64       `json:"free_bytes" doc:"how much of that nothing uses; 0 where no daemon runs, since only who writes knows"`
	FirstIndex uint64      `json:"first_index" doc:"oldest record of the event log; 0: it is empty"`
	LastIndex  uint64      `json:"last_index" doc:"newest record of the event log"`
	MaxWaiting int64       `json:"max_waiting" doc:"tasks that may wait at once; 0: no bound"`
	Classes    []jsonClass `json:"classes" doc:"every configured class, and those of which there still is something"`
}

// jsonClass is a class, in queue stats, pause and resume.
type jsonClass struct {
	Class          string           `json:"class" doc:"its name"`
	Waiting        int64            `json:"waiting" doc:"tasks that wait for anything"`
	Ready          int64            `json:"ready" doc:"of these: for their turn, and for room"`
	Blocked        int64            `json:"blocked" doc:"of these: for other tasks to end"`
	Delayed        int64            `json:"delayed" doc:"of these: for the time of their next attempt"`
	Held           int64            `json:"held" doc:"of these: for a person"`
	Running        int64            `json:"running" doc:"tasks that were given to a backend and have not ended"`
	Parallel       int32            `json:"parallel" doc:"how many of them there may be at once; 0: as many as the machine has room for"`
	Ended          map[string]int64 `json:"ended" doc:"tasks that have ended and were not removed yet: succeeded, failed, cancelled, lost"`
	OldestWaitingS *float64         `json:"oldest_waiting_s,omitempty" doc:"seconds that the one has waited that has waited longest, for anything; absent when none waits"`
	Recent         jsonRecent       `json:"recent" doc:"the last minutes"`
	Paused         bool             `json:"paused" doc:"nothing of it is started"`
	PausedAt       *jsonTime        `json:"paused_at,omitempty" doc:"since when"`
	PausedBy       string           `json:"paused_by,omitempty" doc:"by whom"`
	PausedReason   string           `json:"paused_reason,omitempty" doc:"why"`
	Already        bool             `json:"already,omitempty" doc:"it was so before (pause, resume)"`
}

// jsonRecent is what the last minutes were like for a class.
type jsonRecent struct {
	WindowS        float64  `json:"window_s" doc:"how many seconds: 300, fewer after a start of the daemon"`
	Started        int64    `json:"started" doc:"attempts that began to run"`
	Ended          int64    `json:"ended" doc:"tasks that ended for good, of those that had run"`
	EndedPerMinute float64  `json:"ended_per_minute" doc:"the same by the minute"`
	WaitP50S       *float64 `json:"wait_p50_s,omitempty" doc:"seconds that half of the attempts that began had waited for their turn at most, to a tenth; absent when none began; tasks that wait for others are left out"`
	WaitP95S       *float64 `json:"wait_p95_s,omitempty" doc:"the same for all but one of twenty"`
}

func queueJSON(q *pb.QueueStats) jsonQueue {
	j := jsonQueue{
		QueueID: q.GetQueueId(), QueueDir: q.GetDir(), FileBytes: q.GetFileBytes(), FreeBytes: q.GetFreeBytes(),
		FirstIndex: q.GetFirstIndex(), LastIndex: q.GetLastIndex(), MaxWaiting: q.GetMaxWaiting(), Classes: []jsonClass{},
	}
	for _, k := range q.GetClasses() {
		j.Classes = append(j.Classes, classJSON(k))
	}
	return j
}

func classJSON(k *pb.ClassStats) jsonClass {
	j := jsonClass{
		Class: k.GetName(), Waiting: waitingIn(k), Ready: k.GetReady(), Blocked: k.GetBlocked(), Delayed: k.GetDelayed(), Held: k.GetHeld(),
		Running: activeIn(k), Parallel: k.GetParallel(), Ended: map[string]int64{}, OldestWaitingS: secondsUnlessZero(k.GetOldestWaitingMs()),
		Paused: k.GetPaused(), PausedAt: jsonAt(k.GetPausedAtMs() * int64(time.Millisecond)), PausedBy: k.GetPausedBy(), PausedReason: k.GetPausedReason(),
	}
	for _, st := range task.States {
		if st.Terminal() {
			j.Ended[st.String()] = k.GetStates()[st.String()]
		}
	}
	r := k.GetRecent()
	j.Recent = jsonRecent{
		WindowS: float64(r.GetWindowMs()) / 1000, Started: r.GetStarted(), Ended: r.GetEnded(),
		WaitP50S: secondsUnlessZero(r.GetWaitP50Ms()), WaitP95S: secondsUnlessZero(r.GetWaitP95Ms()),
	}
	if r.GetWindowMs() > 0 {
		j.Recent.EndedPerMinute = endedPerMinute(r)
	}
	return j
}

func secondsUnlessZero(ms int64) *float64 {
	if ms == 0 {
		return nil
	}
	return seconds(time.Duration(ms) * time.Millisecond)
}
