package api_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

func (f *fixture) pause(class, reason string) *pb.PauseClassResponse {
	f.t.Helper()
	got, err := f.PauseClass(f.ctx, &pb.PauseClassRequest{Class: class, Reason: reason})
	if err != nil {
		f.t.Fatal(err)
	}
	return got
}

func TestPauseClass(t *testing.T) {
	f := setup(t)
	before := time.Now().UnixMilli()
	first := f.pause("cpu_short", "the disk is moved")
	k := first.GetClass()
	if first.GetAlready() || !k.GetPaused() || k.GetName() != "cpu_short" || k.GetPausedReason() != "the disk is moved" ||
		!strings.HasPrefix(k.GetPausedBy(), "uid ") || k.GetPausedAtMs() < before {
		t.Errorf("got %v", first)
	}
	again := f.pause("cpu_short", "another reason")
	if !again.GetAlready() || again.GetClass().GetPausedReason() != "the disk is moved" || again.GetClass().GetPausedAtMs() != k.GetPausedAtMs() {
		t.Errorf("paused again: %v", again)
	}
	health, err := f.Health(f.ctx, &pb.HealthRequest{})
	if err != nil || !health.GetHealthy() || !health.GetClasses()[0].GetPaused() || health.GetClasses()[0].GetPausedReason() != "the disk is moved" {
		t.Errorf("health: %v, %v", health, err)
	}
	resumed, err := f.ResumeClass(f.ctx, &pb.ResumeClassRequest{Class: "cpu_short"})
	if err != nil || resumed.GetAlready() || resumed.GetClass().GetPaused() || resumed.GetClass().GetPausedBy() != "" {
		t.Errorf("got %v, %v", resumed, err)
	}
	if resumed, err = f.ResumeClass(f.ctx, &pb.ResumeClassRequest{Class: "cpu_short"}); err != nil || !resumed.GetAlready() {
		t.Errorf("resumed again: %v, %v", resumed, err)
	}
}

func TestPauseIsRefused(t *testing.T) {
	f := setup(t)
	for _, c := range []struct {
		class, reason string
		code          task.Code
		words         string
	}{
		{"", "", task.CodeInvalid, "name one"},
		{"nothing_like_it", "", task.CodeInvalid, "known are cpu_short, cpu_long"},
		{"gpu", "", task.CodeUnsupported, "GPUs come later"},
		{"cpu_short", strings.Repeat("x", task.MaxReason+1), task.CodeInvalid, "fewer words"},
	} {
		_, err := f.PauseClass(f.ctx, &pb.PauseClassRequest{Class: c.class, Reason: c.reason})
		wantCode(t, err, c.code)
		wantWords(t, err, c.words)
		if c.reason == "" {
			_, err = f.ResumeClass(f.ctx, &pb.ResumeClassRequest{Class: c.class})
			wantCode(t, err, c.code)
		}
	}
	if len(f.q.Paused()) != 0 {
		t.Errorf("paused: %v", f.q.Paused())
	}
}

// fullDisk is a queue that can be read and not be written.
type fullDisk struct{ pauser }

var errFull = task.Errorf(task.CodeExhausted, "the disk is full")

func (fullDisk) PauseClass(context.Context, string, string, string) (task.Pause, bool, error) {
	return task.Pause{}, false, errFull
}

func (fullDisk) ResumeClass(context.Context, string, string) (task.Pause, bool, error) {
	return task.Pause{}, false, errFull
}

// TestPauseThatCannotBeStored: the error of the queue is the answer.
func TestPauseThatCannotBeStored(t *testing.T) {
	f := setup(t, func(o *api.Options) {
		of, _ := o.Pauser.(pauser)
		o.Pauser = fullDisk{of}
	})
	_, err := f.PauseClass(f.ctx, &pb.PauseClassRequest{Class: "cpu_short"})
	wantCode(t, err, task.CodeExhausted)
	_, err = f.ResumeClass(f.ctx, &pb.ResumeClassRequest{Class: "cpu_short"})
	wantCode(t, err, task.CodeExhausted)
}

// TestStatsThatCannotBeRead: a fault of ours is one.
func TestStatsThatCannotBeRead(t *testing.T) {
	f := setup(t, func(o *api.Options) {
		o.Stats = func() (api.QueueStats, error) { return api.QueueStats{}, errors.New("the disk is gone") }
	})
	_, err := f.GetQueueStats(f.ctx, &pb.GetQueueStatsRequest{})
	wantCode(t, err, task.CodeInternal)
}

// TestResumeByTheOldName: a class that is not configured any more is not paused for
// ever.
func TestResumeByTheOldName(t *testing.T) {
	f := setup(t)
	if _, _, err := f.q.Pause(f.ctx, "gone", task.Pause{At: 1}); err != nil {
		t.Fatal(err)
	}
	got, err := f.ResumeClass(f.ctx, &pb.ResumeClassRequest{Class: "gone"})
	if err != nil || got.GetAlready() || got.GetClass().GetName() != "gone" || len(f.q.Paused()) != 0 {
		t.Errorf("got %v, %v; paused are %v", got, err, f.q.Paused())
	}
}

// TestTasksOfAPausedClass are accepted, with a word about it, and listed with one.
func TestTasksOfAPausedClass(t *testing.T) {
	f := setup(t)
	f.submit("runs")
	f.begin("runs")
	f.pause("cpu_short", "the disk is moved")
	got, err := f.SubmitTask(f.ctx, &pb.SubmitTaskRequest{Id: "waits", Spec: &pb.TaskSpec{Argv: []string{"true"}}})
	if err != nil || !got.GetSuccess() || !strings.Contains(got.GetWarning(), "class cpu_short is paused since") || !strings.Contains(got.GetWarning(), "resume with: dspy-agent resume cpu_short") {
		t.Errorf("got %v, %v", got, err)
	}
	list, err := f.ListTasks(f.ctx, &pb.ListTasksRequest{})
	if err != nil || len(list.GetTasks()) != 2 || list.GetTasks()[0].GetDetail() != "its class is paused" || list.GetTasks()[1].GetDetail() != "" {
		t.Errorf("got %v, %v", list, err)
	}
	if info, err := f.GetTask(f.ctx, &pb.GetTaskRequest{TaskId: "waits"}); err != nil || info.GetDetail() != "its class is paused" {
		t.Errorf("got %v, %v", info, err)
	}
}

func TestGetQueueStats(t *testing.T) {
	f := setup(t)
	f.submit("waits")
	f.run("ended", 0, "")
	after, err := f.SubmitTask(f.ctx, &pb.SubmitTaskRequest{Id: "blocked", Spec: &pb.TaskSpec{Argv: []string{"true"}, After: []*pb.Dependency{{Id: "waits"}}}})
	if err != nil || !after.GetSuccess() {
		t.Fatal(after, err)
	}
	f.pause("cpu_long", "")
	got, err := f.GetQueueStats(f.ctx, &pb.GetQueueStatsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got.GetQueueId() != f.q.ID() || got.GetDir() != "/q" || got.GetFileBytes() == 0 || got.GetLastIndex() == 0 || got.GetFirstIndex() != 1 || got.GetMaxWaiting() == 0 {
		t.Errorf("got %v", got)
	}
	short, long := got.GetClasses()[0], got.GetClasses()[1]
	if s := short.GetStates(); s["pending"] != 2 || s["succeeded"] != 1 || short.GetReady() != 1 || short.GetBlocked() != 1 || short.GetOldestWaitingMs() < 0 || short.GetPaused() {
		t.Errorf("got %v", short)
	}
	if r := short.GetRecent(); r.GetWindowMs() != 60_000 || r.GetStarted() != 5 || r.GetEnded() != 4 || r.GetWaitP50Ms() != 1000 || r.GetWaitP95Ms() != 2000 {
		t.Errorf("got %v", r)
	}
	if !long.GetPaused() || long.GetParallel() != 3 || long.GetOldestWaitingMs() != 0 {
		t.Errorf("got %v", long)
	}
}

// TestHTTPTellsOfPauses: as health, which stays good, and as a metric.
func TestHTTPTellsOfPauses(t *testing.T) {
	f := setupHTTP(t)
	if got := f.ask("GET", "/health", ""); strings.Contains(got.body, "paused") {
		t.Errorf("nothing is paused, and it is said: %s", got.body)
	}
	f.pause("cpu_short", "the disk is moved")
	got := f.ask("GET", "/health", "")
	said, _ := got.json["paused_classes"].(map[string]any)
	if text, _ := said["cpu_short"].(string); got.status != 200 || !strings.HasPrefix(text, "since ") || !strings.HasSuffix(text, ": the disk is moved") {
		t.Errorf("got %d %s", got.status, got.body)
	}
	metrics := f.ask("GET", "/metrics", "").body
	for _, line := range []string{`dspy_class_paused{class="cpu_short"} 1`, `dspy_class_paused{class="cpu_long"} 0`} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf("/metrics lacks %s", line)
		}
	}
}
