package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// pausedAt is when the fake pauses.
var pausedAt = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func (f *fake) class(name string) (*pb.ClassStats, error) {
	for _, k := range f.classes {
		if k.GetName() == name {
			return k, nil
		}
	}
	return nil, status.Errorf(codes.InvalidArgument, "unknown class %q; did you mean cpu_long?", name)
}

func (f *fake) PauseClass(_ context.Context, req *pb.PauseClassRequest) (*pb.PauseClassResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k, err := f.class(req.GetClass())
	if err != nil {
		return nil, err
	}
	answer := &pb.PauseClassResponse{Class: k, Already: k.GetPaused()}
	if !k.GetPaused() {
		k.Paused, k.PausedBy, k.PausedReason, k.PausedAtMs = true, "uid 7 (ada)", req.GetReason(), pausedAt.UnixMilli()
	}
	return answer, nil
}

func (f *fake) ResumeClass(_ context.Context, req *pb.ResumeClassRequest) (*pb.ResumeClassResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k, err := f.class(req.GetClass())
	if err != nil {
		return nil, err
	}
	answer := &pb.ResumeClassResponse{Class: k, Already: !k.GetPaused()}
	k.Paused, k.PausedBy, k.PausedReason, k.PausedAtMs = false, "", "", 0
	return answer, nil
}

func (f *fake) GetQueueStats(context.Context, *pb.GetQueueStatsRequest) (*pb.QueueStats, error) {
	return &pb.QueueStats{Classes: f.classes, QueueId: "0123456789abcdef", Dir: "/q", FileBytes: 3 << 20, FreeBytes: 1 << 20, FirstIndex: 1, LastIndex: 9, MaxWaiting: 100}, nil
}

func twoClasses() []*pb.ClassStats {
	return []*pb.ClassStats{
		{
			Name: "cpu_short", States: map[string]int64{"pending": 12, "running": 2, "assigned": 1, "succeeded": 40, "lost": 1}, Parallel: 4,
			Ready: 7, Blocked: 3, Delayed: 1, Held: 1, OldestWaitingMs: 90_500,
			Recent: &pb.RecentStats{WindowMs: 120_000, Started: 9, Ended: 5, WaitP50Ms: 1500, WaitP95Ms: 65_000},
		},
		{Name: "cpu_long", States: map[string]int64{}, Recent: &pb.RecentStats{WindowMs: 120_000}},
	}
}

func TestPauseAndResume(t *testing.T) {
	f, env := startFake(t)
	f.classes = twoClasses()
	since := "since " + pausedAt.Local().Format("2006-01-02 15:04:05 MST") + " by uid 7 (ada)"
	expect(t, env, exitDone, "cpu_short is paused: 12 tasks waiting, 3 tasks go on; resume with: dspy-agent resume cpu_short\n", "",
		"pause", "cpu_short", "--reason", "the disk is moved")
	expect(t, env, exitDone, "cpu_short was paused already, "+since+": the disk is moved\ncpu_long is paused: 0 tasks waiting;", "",
		"pause", "cpu_short", "cpu_long")
	status := "class cpu_short is paused " + since + ": the disk is moved; resume with: dspy-agent resume cpu_short\n"
	expect(t, env, exitDone, status, "", "status")
	expect(t, env, exitDone, `"paused_classes":{"cpu_long":{"at":"2026-03-04T05:06:07.000Z","by":"uid 7 (ada)"},"cpu_short":`, "", "status", "--json")
	expect(t, env, exitDone, "cpu_short is resumed: 12 tasks waiting\n", "", "resume", "cpu_short")
	expect(t, env, exitDone, "cpu_short was not paused\n", "", "resume", "cpu_short")
	expect(t, env, exitDone, `"paused":false,"already":true}`, "", "resume", "cpu_short", "--json")

	// The others are seen to all the same.
	expect(t, env, exitUsage, "cpu_long is resumed", "cpu_lng: unknown class \"cpu_lng\"; did you mean cpu_long?\n", "resume", "cpu_lng", "cpu_long")
	expect(t, env, exitUsage, "", "one or more classes", "pause")
	expect(t, env, exitUsage, "", "there is no flag --reason of resume", "resume", "cpu_long", "--reason", "x")
	f.stop()
	expect(t, env, exitNotFound, "", "there is no queue", "pause", "cpu_long")
}

func TestQueueStats(t *testing.T) {
	f, env := startFake(t)
	f.classes = twoClasses()
	expect(t, env, exitDone, "CLASS\tWAITING\tREADY\tBLOCKED\tDELAYED\tHELD\tRUNNING\tLIMIT\tSUCCEEDED\tFAILED\tCANCELLED\tLOST\tOLDEST\tWAIT50\tWAIT95\tENDED/MIN\tPAUSED\n"+
		"cpu_short\t12\t7\t3\t1\t1\t3\t4\t40\t0\t0\t1\t90.500\t1.500\t65.000\t2.5\tno\n"+
		"cpu_long\t0\t0\t0\t0\t0\t0\t\t0\t0\t0\t0\t\t\t\t0.0\tno\n", "", "queue", "stats")
	var got map[string]any
	if err := json.Unmarshal([]byte(expect(t, env, exitDone, `"queue_id":"0123456789abcdef"`, "", "queue", "stats", "--json")), &got); err != nil {
		t.Fatal(err)
	}
	classes, _ := got["classes"].([]any)
	short, _ := classes[0].(map[string]any)
	want := `{"blocked":3,"class":"cpu_short","delayed":1,"ended":{"cancelled":0,"failed":0,"lost":1,"succeeded":40},"held":1,"oldest_waiting_s":90.5,"parallel":4,"paused":false,` +
		`"ready":7,"recent":{"ended":5,"ended_per_minute":2.5,"started":9,"wait_p50_s":1.5,"wait_p95_s":65,"window_s":120},"running":3,"waiting":12}`
	if text, err := json.Marshal(short); err != nil || string(text) != want {
		t.Errorf("got  %s (%v)\nwant %s", text, err, want)
	}
	expect(t, env, exitUsage, "", "queue takes one of stats", "queue")
	expect(t, env, exitUsage, "", "did you mean stats?", "queue", "stat")
	expect(t, env, exitUsage, "", "is too much", "queue", "stats", "x")
	expect(t, env, exitUsage, "", "did you mean queue stats?", "stats")
	expect(t, env, exitDone, "stats\nverify\nbackup\nrestore\nrepair\ncompact\nrelease\n", "", "__complete", "--", "queue", "")
	expect(t, env, exitDone, "cpu_long\n", "", "__complete", "--", "pause", "cpu_l")
}

// TestStatsFitATerminal: columns give way, and which class it is about and whether it
// is paused is always there.
func TestStatsFitATerminal(t *testing.T) {
	for _, cols := range []int{200, 80, 60} {
		var out bytes.Buffer
		w := &screen{w: &out, tty: true}
		g := statsGrid()
		for _, k := range twoClasses() {
			row := []string{k.GetName()}
			for _, col := range statsColumns {
				row = append(row, col.cell(true, k))
			}
			g.add(row...)
		}
		g.render(w, cols)
		for line := range strings.Lines(out.String()) {
			if n := len(strings.TrimRight(line, "\n")); n > cols {
				t.Errorf("%d columns: a line has %d: %s", cols, n, line)
			}
		}
		for _, word := range []string{"cpu_short", "WAITING", "READY", "RUNNING", "PAUSED"} {
			if !strings.Contains(out.String(), word) {
				t.Errorf("%d columns: %s is missing:\n%s", cols, word, &out)
			}
		}
	}
}

// TestDropsAreColumns: what gives way is there.
func TestDropsAreColumns(t *testing.T) {
	g := statsGrid()
	if len(g.drop) != len(statsDrop) {
		t.Errorf("%d of %d columns", len(g.drop), len(statsDrop))
	}
	for i, col := range g.drop {
		if col < 1 {
			t.Errorf("there is no column %s", statsDrop[i])
		}
	}
}
