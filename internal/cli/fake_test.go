package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// fake is a daemon that runs nothing: "true" succeeds at once, "false" fails,
// "exit N" ends with N, everything else runs until it is ended by the test. The
// scripts in cmd/dspy-agent test against the real one; this one holds still
// where a test of the terminal needs it to.
type fake struct {
	pb.UnimplementedOrchestratorServiceServer

	mu      sync.Mutex
	tasks   []*pb.TaskInfo // in order of acceptance
	changed chan struct{}  // closed and replaced with every change
	events  []*pb.SystemEvent
	batches []int // sizes of the SubmitTasks calls
	looks   []int // sizes of the GetTasks calls
	waits   chan string
	refuse  map[string]string // by id: why
	warn    map[string]string // by id: of what
	drop    int               // so many answers to submissions are lost on the way

	drain    int // pid of the drain that it is; 0 = it is a daemon
	services map[string]string
	images   []*pb.NeededImage // of ListImages
	classes  []*pb.ClassStats  // of GetQueueStats, PauseClass and ResumeClass

	workspace string // that it says it serves
	config    string // file that it says it has read, as it was at configAt
	configAt  int64

	path string // of the socket
	stop func() // the serving; may be called twice
}

func (f *fake) ListImages(context.Context, *pb.ListImagesRequest) (*pb.ListImagesResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &pb.ListImagesResponse{Images: f.images}, nil
}

// setImage says how far an image is.
func (f *fake) setImage(state, detail string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.images = []*pb.NeededImage{{Image: "slow:1", State: state, Detail: detail}}
}

// startFake serves a fresh workspace, and returns it with the environment that
// leads to it.
func startFake(t *testing.T) (*fake, Env) {
	t.Helper()
	env := testEnv(t)
	cfg, err := config.Load(config.Given{Cwd: env.Cwd, Lookup: env.getenv})
	if err != nil {
		t.Fatal(err)
	}
	path := socketPath(cfg)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	f := &fake{changed: make(chan struct{}), waits: make(chan string, 100), refuse: map[string]string{}, path: path, workspace: cfg.Workspace}
	f.serve(t)
	t.Cleanup(func() { f.stop() })
	return f, env
}

// serve takes calls until stop. A daemon that comes back is the same with all it
// knew.
func (f *fake) serve(t *testing.T) {
	t.Helper()
	lis, err := net.Listen("unix", f.path)
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	pb.RegisterOrchestratorServiceServer(srv, f)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(lis) }()
	f.stop = sync.OnceFunc(func() {
		srv.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
}

// testEnv is a world of its own. Its runtime directory has a short name, since
// the path of a socket is limited.
func testEnv(t *testing.T) Env {
	t.Helper()
	run, err := os.MkdirTemp("/tmp", "cli")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(run); err != nil {
			t.Error(err)
		}
	})
	return Env{
		Environ: []string{"XDG_RUNTIME_DIR=" + run, "PATH=/usr/bin:/bin", "HOME=/home/ada", "SECRET_TOKEN=hunter2", "LANG=C.UTF-8", "TERM=xterm"},
		Cwd:     t.TempDir(), Stdin: strings.NewReader(""),
	}
}

// dspyAgent runs a command line to its end.
func dspyAgent(t *testing.T, env Env, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	env.Args, env.Stdout, env.Stderr = append([]string{Program}, args...), &out, &errs
	s := newSession(env)
	s.commandPatience = holderPatience // nobody else is at these queues
	s.serviceQuiet = 300 * time.Millisecond
	code = s.run(t.Context())
	return code, out.String(), errs.String()
}

func (f *fake) SubmitTask(_ context.Context, req *pb.SubmitTaskRequest) (*pb.SubmitTaskResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	answer := f.submit(req)
	if f.drop > 0 {
		f.drop--
		return nil, status.Error(codes.Unavailable, "the connection broke")
	}
	return answer, nil
}

func (f *fake) SubmitTasks(_ context.Context, req *pb.SubmitTasksRequest) (*pb.SubmitTasksResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.batches = append(f.batches, len(req.GetTasks()))
	answer := &pb.SubmitTasksResponse{}
	for _, r := range req.GetTasks() {
		answer.Results = append(answer.Results, f.submit(r))
	}
	return answer, nil
}

func (f *fake) submit(req *pb.SubmitTaskRequest) *pb.SubmitTaskResponse {
	if why := f.refuse[req.GetId()]; why != "" {
		return &pb.SubmitTaskResponse{TaskId: req.GetId(), Error: why, Code: "invalid"}
	}
	if old := f.find(req.GetId()); old != nil {
		return &pb.SubmitTaskResponse{Success: true, TaskId: old.GetId(), Existing: true, Seq: old.GetSeq()}
	}
	now := time.Now().UnixNano()
	info := &pb.TaskInfo{
		Id: req.GetId(), Name: req.GetName(), Class: req.GetClass(), Priority: req.GetPriority(), Spec: req.GetSpec(),
		Seq: uint64(len(f.tasks) + 1), Attempt: 1, SubmittedAtNs: now, StartedAtNs: now, State: "running", Status: "running", Backend: "process",
	}
	if info.Id == "" {
		info.Id = fmt.Sprintf("task-%d", info.Seq)
	}
	if info.Class == "" {
		info.Class = config.DefaultClass
	}
	f.tasks = append(f.tasks, info)
	f.event(info, "task_submitted")
	var code int32
	switch argv := req.GetSpec().GetArgv(); {
	case slices.Equal(argv, []string{"true"}):
		f.endLocked(info, task.Succeeded, &pb.Outcome{})
	case slices.Equal(argv, []string{"false"}):
		f.endLocked(info, task.Failed, failure(1))
	case len(argv) == 2 && argv[0] == "exit":
		_, _ = fmt.Sscan(argv[1], &code)
		f.endLocked(info, task.Failed, failure(code))
	}
	return &pb.SubmitTaskResponse{Success: true, TaskId: info.GetId(), Seq: info.GetSeq(), Warning: f.warn[info.GetId()]}
}

func failure(code int32) *pb.Outcome {
	return &pb.Outcome{ExitCode: code, FailureClass: "user_error", Message: fmt.Sprintf("ended with exit code %d", code)}
}

func (f *fake) find(id string) *pb.TaskInfo {
	for _, t := range f.tasks {
		if t.GetId() == id {
			return t
		}
	}
	return nil
}

func (f *fake) end(id string, st task.State, o *pb.Outcome) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.endLocked(f.find(id), st, o)
}

// change changes a task in a way of which no event tells.
func (f *fake) change(id string, how func(*pb.TaskInfo)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	how(f.find(id))
}

func (f *fake) endLocked(t *pb.TaskInfo, st task.State, o *pb.Outcome) {
	t.State, t.Status, t.Outcome, t.EndedAtNs = st.String(), st.Wire(), o, time.Now().UnixNano()
	f.event(t, "task_"+st.Wire())
}

func (f *fake) event(t *pb.TaskInfo, kind string) {
	f.events = append(f.events, &pb.SystemEvent{
		EventType: kind, ResourceId: t.GetId(), Index: uint64(len(f.events) + 1), TimestampNs: time.Now().UnixNano(),
		Data: map[string]string{"class": t.GetClass(), "state": t.GetState(), "status": t.GetStatus()},
	})
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fake) get(id string) (*pb.TaskInfo, chan struct{}, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.find(id)
	if t == nil {
		return nil, nil, status.Errorf(codes.NotFound, "there is no task %q", id)
	}
	return &pb.TaskInfo{
		Id: t.Id, Seq: t.Seq, Name: t.Name, Class: t.Class, State: t.State, Status: t.Status, Attempt: t.Attempt, Backend: t.Backend,
		SubmittedAtNs: t.SubmittedAtNs, StartedAtNs: t.StartedAtNs, EndedAtNs: t.EndedAtNs, Outcome: t.Outcome, Spec: t.Spec, ResultJson: t.ResultJson, Held: t.Held,
	}, f.changed, nil
}

func (f *fake) GetTask(_ context.Context, req *pb.GetTaskRequest) (*pb.TaskInfo, error) {
	t, _, err := f.get(req.GetTaskId())
	return t, err
}

func (f *fake) GetTasks(_ context.Context, req *pb.GetTasksRequest) (*pb.GetTasksResponse, error) {
	f.mu.Lock()
	f.looks = append(f.looks, len(req.GetTaskIds()))
	f.mu.Unlock()
	answer := &pb.GetTasksResponse{}
	for _, id := range req.GetTaskIds() {
		if t, _, err := f.get(id); err == nil {
			answer.Tasks = append(answer.Tasks, t)
		} else {
			answer.Unknown = append(answer.Unknown, id)
		}
	}
	return answer, nil
}

func (f *fake) StreamTaskResults(req *pb.StreamTaskResultsRequest, out grpc.ServerStreamingServer[pb.TaskResult]) error {
	f.waits <- strings.Join(req.GetTaskIds(), " ")
	for {
		var changed chan struct{}
		for _, id := range req.GetTaskIds() {
			t, next, err := f.get(id)
			if err != nil {
				return err
			}
			if ended(t) {
				return out.Send(&pb.TaskResult{TaskId: id, Status: t.GetStatus()})
			}
			if changed == nil {
				changed = next // the earliest: no change falls between
			}
		}
		select {
		case <-changed:
		case <-out.Context().Done():
			return out.Context().Err()
		}
	}
}

func (f *fake) WaitTask(ctx context.Context, req *pb.WaitTaskRequest) (*pb.TaskInfo, error) {
	f.waits <- req.GetTaskId()
	for {
		t, changed, err := f.get(req.GetTaskId())
		if err != nil || ended(t) {
			return t, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (f *fake) ListTasks(_ context.Context, req *pb.ListTasksRequest) (*pb.ListTasksResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	answer := &pb.ListTasksResponse{}
	for _, t := range slices.Backward(f.tasks) {
		sel := selection{class: req.GetClass(), states: req.GetStates()}
		if !strings.HasPrefix(t.GetId(), req.GetIdPrefix()) || !strings.Contains(t.GetName(), req.GetNameContains()) {
			continue
		}
		if req.GetBeforeSeq() != 0 && t.GetSeq() >= req.GetBeforeSeq() || !sel.wants(t.GetClass(), t.GetState(), t.GetStatus()) {
			continue
		}
		if len(answer.Tasks) == int(req.GetLimit()) {
			answer.NextBeforeSeq = answer.Tasks[len(answer.Tasks)-1].GetSeq()
			break
		}
		answer.Tasks = append(answer.Tasks, t)
	}
	return answer, nil
}

func (f *fake) Health(context.Context, *pb.HealthRequest) (*pb.HealthResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	classes := map[string]*pb.ClassStatus{}
	for _, t := range f.tasks {
		if classes[t.GetClass()] == nil {
			classes[t.GetClass()] = &pb.ClassStatus{Class: t.GetClass(), States: map[string]int64{}}
		}
		classes[t.GetClass()].States[t.GetState()]++
	}
	h := &pb.HealthResponse{Healthy: true, Version: "dev", Pid: int32(os.Getpid()), StartedAtNs: time.Now().UnixNano(), Services: f.services, Workspace: f.workspace, ConfigFile: f.config, ConfigChangedAtNs: f.configAt}
	if f.drain != 0 {
		h.Role, h.Pid = api.RoleDrain, int32(f.drain)
	}
	for _, k := range f.classes {
		classes[k.GetName()] = &pb.ClassStatus{
			Class: k.GetName(), Paused: k.GetPaused(), PausedBy: k.GetPausedBy(), PausedReason: k.GetPausedReason(), PausedAtMs: k.GetPausedAtMs(),
		}
	}
	for _, k := range classes {
		h.Classes = append(h.Classes, k)
	}
	return h, nil
}

func (f *fake) CancelTask(_ context.Context, req *pb.CancelTaskRequest) (*pb.CancelTaskResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.find(req.GetTaskId())
	if t == nil {
		return nil, status.Errorf(codes.NotFound, "there is no task %q", req.GetTaskId())
	}
	switch {
	case ended(t) && t.GetState() != task.Cancelled.String():
		return nil, status.Errorf(codes.FailedPrecondition, "task %s has already ended", t.GetId())
	case !ended(t):
		f.endLocked(t, task.Cancelled, &pb.Outcome{ExitCode: -1, Message: "cancelled by uid 0"})
	}
	return &pb.CancelTaskResponse{Task: t}, nil
}

func (f *fake) RetryTask(_ context.Context, req *pb.RetryTaskRequest) (*pb.RetryTaskResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.find(req.GetTaskId())
	switch {
	case t == nil:
		return nil, status.Errorf(codes.NotFound, "there is no task %q", req.GetTaskId())
	case !ended(t) || t.GetState() == task.Succeeded.String():
		return nil, status.Errorf(codes.FailedPrecondition, "task %s is %s", t.GetId(), t.GetState())
	}
	for _, d := range t.GetSpec().GetAfter() {
		if dep := f.find(d.GetId()); dep != nil && ended(dep) && dep.GetState() != task.Succeeded.String() {
			return nil, status.Errorf(codes.FailedPrecondition, "it waits for %s to succeed, but that failed", d.GetId())
		}
	}
	t.Attempt++
	t.State, t.Status, t.EndedAtNs, t.Outcome = "pending", "pending", 0, nil
	return &pb.RetryTaskResponse{Task: t}, nil
}

func (f *fake) ExplainTask(_ context.Context, req *pb.ExplainTaskRequest) (*pb.ExplainTaskResponse, error) {
	t, _, err := f.get(req.GetTaskId())
	if err != nil {
		return nil, err
	}
	return &pb.ExplainTaskResponse{Reason: "running for 3s on backend process", Task: t}, nil
}

func (f *fake) StreamEvents(req *pb.StreamEventsRequest, out grpc.ServerStreamingServer[pb.SystemEvent]) error {
	f.mu.Lock()
	at := len(f.events)
	switch {
	case req.GetAfterIndex() > 0:
		at = int(req.GetAfterIndex())
	case req.GetSinceTimestamp() > 0:
		at = slices.IndexFunc(f.events, func(ev *pb.SystemEvent) bool {
			return ev.GetTimestampNs() >= req.GetSinceTimestamp()*int64(time.Second)
		})
		if at < 0 {
			at = len(f.events)
		}
	}
	f.mu.Unlock()
	f.waits <- "events"
	for {
		f.mu.Lock()
		fresh, changed := slices.Clone(f.events[at:]), f.changed
		f.mu.Unlock()
		for _, ev := range fresh {
			if err := out.Send(ev); err != nil {
				return err
			}
			at++
		}
		select {
		case <-changed:
		case <-out.Context().Done():
			return out.Context().Err()
		}
	}
}

func (f *fake) StreamLogs(req *pb.StreamLogsRequest, out grpc.ServerStreamingServer[pb.LogChunk]) error {
	t, _, err := f.get(req.GetTaskId())
	if err != nil {
		return err
	}
	data := []byte("out of " + t.GetId() + "\n\xff\x00")
	return out.Send(&pb.LogChunk{Data: data, NextOffset: int64(len(data)), TaskId: t.GetId(), Attempt: 1})
}
