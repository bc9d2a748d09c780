package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/gputest"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// newGPUWorld is a world whose machine has GPUs.
func newGPUWorld(t *testing.T, config string) (*world, *gputest.Machine) {
	t.Helper()
	w, m := newWorld(t, binaries.plain), gputest.New(t, config)
	w.env = append(w.env, m.Env()...)
	w.configure(gpuConfig(t, filepath.Join(filepath.Dir(w.workspace), "locks")))
	return w, m
}

// gpuConfig is a configuration with which the fake driver is read.
func gpuConfig(t *testing.T, locks string) string {
	t.Helper()
	return fmt.Sprintf("grpc_addr = \"none\"\nhttp_addr = \"none\"\n[capacity]\ncpus = 64\n[gpu]\npool = \"on\"\nprobe = %q\nlibrary = %q\nlock_dir = %q\n",
		gputest.Probe(t), gputest.Library(t, gputest.Newest), locks)
}

func (w *world) configure(text string) {
	w.Helper()
	dir := filepath.Join(filepath.Dir(w.workspace), ".dspy-agent")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		w.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte(text), 0o600); err != nil {
		w.Fatal(err)
	}
}

// onGPUs asks for whole GPUs.
func onGPUs(n int) func(*pb.SubmitTaskRequest) {
	return func(r *pb.SubmitTaskRequest) { r.Spec.Resources = &pb.Resources{Gpus: int32(n), CpuMillicores: 100} }
}

func (w *world) why(id string) string {
	w.Helper()
	var text string
	w.persistently(func(ctx context.Context, c *api.Client) error {
		answer, err := c.ExplainTask(ctx, &pb.ExplainTaskRequest{TaskId: id})
		text = answer.GetReason()
		return err
	})
	return text
}

func (w *world) gpus() map[string]*pb.GPUStatus {
	w.Helper()
	out := map[string]*pb.GPUStatus{}
	w.persistently(func(ctx context.Context, c *api.Client) error {
		answer, err := c.ListGPUs(ctx, &pb.ListGPUsRequest{})
		for _, g := range answer.GetGpus() {
			out[g.GetId()] = g
		}
		return err
	})
	return out
}

// event returns the first event of a type.
func (w *world) event(kind string) *pb.SystemEvent {
	w.Helper()
	var first *pb.SystemEvent
	w.persistently(func(ctx context.Context, c *api.Client) error {
		stream, err := c.StreamEvents(ctx, &pb.StreamEventsRequest{EventTypes: []string{kind}, SinceTimestamp: 1})
		if err != nil {
			return err
		}
		first, err = stream.Recv()
		return err
	})
	return first
}

// TestGPUTask: a task gets a GPU, is told which, and what it had is told with its end.
func TestGPUTask(t *testing.T) {
	t.Parallel()
	w, _ := newGPUWorld(t, gputest.GPUs(2)+"util_gpu = 100\n")
	w.mustStart()
	out := filepath.Join(w.workspace, "out")
	show := `echo "$CUDA_DEVICE_ORDER $CUDA_VISIBLE_DEVICES" > ` + out
	w.submit(
		submission("two", show+".two", onGPUs(2)),
		submission("none", `echo "[${CUDA_VISIBLE_DEVICES-unset}]" > `+out+".none"),
		submission("class", show+".class; sleep 0.2", func(r *pb.SubmitTaskRequest) { r.Class = "gpu_short" }),
	)
	for id, want := range map[string]string{"two": "PCI_BUS_ID 0,1", "none": "[]", "class": "PCI_BUS_ID 0"} {
		if info := w.await(id); info.GetState() != "succeeded" {
			t.Fatalf("%s: %s", id, info.GetOutcome().GetMessage())
		}
		if got, err := os.ReadFile(out + "." + id); err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("%s was told %q (%v), want %q", id, got, err, want)
		}
	}
	if use := w.task("class").GetOutcome().GetGpu(); use.GetSecondsHeld() < 0.2 {
		t.Errorf("held: %v", use)
	}
}

// TestGPUInUse: a GPU that somebody else uses is not given out, and why says so; when
// that is over it is.
func TestGPUInUse(t *testing.T) {
	t.Parallel()
	w, _ := newGPUWorld(t, "[gpu 0]\nproc = 1 30GiB c -1 -1 90 40\n[gpu 1]\n")
	w.mustStart()
	go1 := filepath.Join(w.workspace, "go")
	w.submit(submission("one", `while [ ! -e `+go1+` ]; do sleep 0.01; done`, onGPUs(1)))
	w.eventually(time.Minute, "the first runs", func() bool { return w.task("one").GetState() == "running" })
	if got := w.task("one").GetGpus(); !slices.Equal(got, []string{gputest.UUID(1)}) {
		t.Errorf("it has %v", got)
	}
	w.submit(submission("two", "true", onGPUs(1)))
	w.eventually(time.Minute, "a reason", func() bool {
		why := w.why("two")
		return strings.Contains(why, "needs 1 GPU: 1 held by task one, 1 in use by ") && strings.Contains(why, "pid 1, 30 GiB) since ")
	})
	if err := os.WriteFile(go1, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := w.await("two"); got.GetState() != "succeeded" {
		t.Error(got)
	}
}

// TestGPULostUnderTask: a task whose GPU falls off the bus is ended and tried on another,
// and the user's retries are spared.
func TestGPULostUnderTask(t *testing.T) {
	t.Parallel()
	w, m := newGPUWorld(t, gputest.GPUs(2))
	w.mustStart()
	w.submit(submission("train", `[ "$DSPY_TASK_ATTEMPT" -gt 1 ] || sleep 300`, onGPUs(1)))
	w.eventually(time.Minute, "it runs", func() bool { return w.task("train").GetState() == "running" })
	m.Event("xid 0 79")
	info := w.await("train")
	if info.GetState() != "succeeded" || info.GetAttempt() != 2 || len(info.GetPast()) != 1 {
		t.Fatalf("%v", info)
	}
	if o := info.GetPast()[0].GetOutcome(); o.GetFailureClass() != "gpu_lost" {
		t.Errorf("the first attempt: %v", o)
	}
	if e := w.event("gpu_unhealthy"); e.GetResourceId() != gputest.UUID(0) || e.GetData()["text"] != "lost: XID 79: it fell off the bus" {
		t.Errorf("the event is %v", e)
	}
	w.killDaemon()
	w.mustStart()
	w.eventually(time.Minute, "it is remembered", func() bool {
		return w.gpus()[gputest.UUID(0)].GetHealth() == "lost" || w.gpus()[gputest.UUID(0)].GetHealth() == "suspect"
	})
}

// TestGPULostBeforeItsTask: a program that ends by itself because its GPU is gone, before
// anybody has told us of that, is not to blame either.
func TestGPULostBeforeItsTask(t *testing.T) {
	t.Parallel()
	w, m := newGPUWorld(t, gputest.GPUs(2))
	w.mustStart()
	go1 := filepath.Join(w.workspace, "go")
	w.submit(submission("train", `[ "$DSPY_TASK_ATTEMPT" -gt 1 ] || { while [ ! -e `+go1+` ]; do sleep 0.01; done; exit 3; }`, onGPUs(1)))
	w.eventually(time.Minute, "it runs", func() bool { return w.task("train").GetState() == "running" })
	m.Set("[gpu 0]\nlost = 1\n[gpu 1]\n")
	if err := os.WriteFile(go1, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	info := w.await("train")
	if info.GetState() != "succeeded" || len(info.GetPast()) != 1 || info.GetPast()[0].GetOutcome().GetFailureClass() != "gpu_lost" {
		t.Errorf("%v", info)
	}
}

// TestDrainWithGPUs: a run without a daemon looks at the GPUs, too, and does not stay for
// a task that cannot have one.
func TestDrainWithGPUs(t *testing.T) {
	t.Parallel()
	w, _ := newGPUWorld(t, "[gpu 0]\n[gpu 1]\nproc = 1 30GiB c -1 -1 90 40\n")
	w.dspyOK("submit", "--workspace", w.workspace, "--id", "one", "--gpus", "1", "--", "true")
	w.dspyOK("submit", "--workspace", w.workspace, "--id", "two", "--gpus", "2", "--", "true")
	if out, want := w.dspyOK("drain", "--json"), `"ended":{"succeeded":1},"running":0,"waiting":1,`; !strings.Contains(out, want) {
		t.Errorf("said %s, want %s", out, want)
	}
}

// TestGPUReserved: GPUs that are kept for a large task name it, and why names who may have
// them meanwhile; one that is sure to end in time does. It takes the two minutes after which
// something is kept.
func TestGPUReserved(t *testing.T) {
	t.Parallel()
	if !full() {
		t.Skip("takes two minutes: DSPY_TEST_FULL=1")
	}
	w, _ := newGPUWorld(t, gputest.GPUs(2))
	w.mustStart()
	limited := func(d time.Duration) func(*pb.SubmitTaskRequest) {
		return func(r *pb.SubmitTaskRequest) { r.Spec.TimeoutMs = d.Milliseconds() }
	}
	w.submit(submission("holder", "sleep 600", onGPUs(1), limited(10*time.Minute)))
	w.eventually(time.Minute, "the holder runs", func() bool { return w.task("holder").GetState() == "running" })
	w.submit(submission("big", "true", onGPUs(2)))
	w.eventually(4*time.Minute, "both are kept for the large one", func() bool {
		list := w.gpus()
		return list[gputest.UUID(0)].GetReservedFor() == "big" && list[gputest.UUID(1)].GetReservedFor() == "big"
	})
	if why := w.why("big"); !strings.Contains(why, "is kept for it, and all of it is there by ") {
		t.Errorf("big: %s", why)
	}
	w.submit(submission("endless", "true", onGPUs(1)), submission("short", "true", onGPUs(1), limited(time.Minute)))
	if info := w.await("short"); info.GetState() != "succeeded" {
		t.Errorf("%v", info)
	}
	if why := w.why("endless"); w.task("endless").GetState() != "pending" || !strings.Contains(why, "others may have it if their own time limit (--timeout) ends before") {
		t.Errorf("endless: %s", why)
	}
}
