package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// This file is the only one that knows both the domain's types and the wire's.

// specFrom converts what a submission says in full. What is not its to say (id,
// class, payload, who and when) the caller fills in.
func specFrom(p *pb.TaskSpec) (*task.Spec, error) {
	s := &task.Spec{
		Argv: p.GetArgv(), Dir: p.GetDir(), Env: sortedEnv(p.GetEnv()), Ambient: sortedEnv(p.GetAmbientEnv()),
		Retries: int(p.GetRetries()), Image: p.GetImage(), Needs: p.GetNeeds(), Backends: p.GetBackends(), Tenant: p.GetTenant(),
		Resources: resourcesFrom(p.GetResources()), ContainerDir: p.GetContainerDir(),
		Network: p.GetNetwork(), ImageEntrypoint: p.GetImageEntrypoint(),
	}
	for _, m := range p.GetMounts() {
		s.Mounts = append(s.Mounts, task.Mount{Host: m.GetHostPath(), Target: m.GetMountPath(), ReadOnly: m.GetReadOnly()})
	}
	for _, f := range []struct {
		name string
		ms   int64
		to   *time.Duration
	}{
		{"timeout_ms", p.GetTimeoutMs(), &s.Timeout}, {"grace_ms", p.GetGraceMs(), &s.Grace}, {"backoff_ms", p.GetBackoffMs(), &s.BackoffBase},
	} {
		if f.ms < 0 || f.ms > task.MaxDuration.Milliseconds() {
			return nil, task.Errorf(task.CodeInvalid, "%s is %d; it must be between 0 and %d", f.name, f.ms, task.MaxDuration.Milliseconds())
		}
		*f.to = time.Duration(f.ms) * time.Millisecond
	}
	switch p.GetOnLost() {
	case "", "fail":
	case "retry":
		s.OnLost = task.LostRetry
	default:
		return nil, task.Errorf(task.CodeInvalid, "on_lost is %q; it must be fail or retry", p.GetOnLost())
	}
	for _, d := range p.GetAfter() {
		when := task.AfterOK
		if d.GetWhen() != "" {
			var ok bool
			if when, ok = task.ParseCondition(d.GetWhen()); !ok {
				return nil, task.Errorf(task.CodeInvalid, "after %q: the condition is %q; it must be ok, any or notok", d.GetId(), d.GetWhen())
			}
		}
		s.After = append(s.After, task.Dep{ID: d.GetId(), When: when})
	}
	return s, nil
}

func resourcesFrom(p *pb.Resources) task.Resources {
	return task.Resources{
		CPUMilli: p.GetCpuMillicores(), MemBytes: p.GetMemBytes(), GPUs: int(p.GetGpus()),
		GPUMem: p.GetGpuMemBytes(), GPUModel: p.GetGpuModel(), MIG: p.GetMig(),
	}
}

// sortedEnv sorts by name. Of several entries with one name the last counts, as
// in a shell.
func sortedEnv(env []string) []string {
	if len(env) == 0 {
		return nil
	}
	byName := make(map[string]string, len(env))
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		byName[name] = kv
	}
	out := make([]string, 0, len(byName))
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		out = append(out, byName[name])
	}
	return out
}

func specTo(s *task.Spec) *pb.TaskSpec {
	p := &pb.TaskSpec{
		Argv: texts(s.Argv), Dir: text(s.Dir), Env: texts(s.Env), AmbientEnv: texts(s.Ambient), PayloadJson: s.Payload,
		TimeoutMs: s.Timeout.Milliseconds(), GraceMs: s.Grace.Milliseconds(), BackoffMs: s.BackoffBase.Milliseconds(),
		Retries: int32(s.Retries), OnLost: "fail", Image: text(s.Image), Needs: texts(s.Needs), Backends: texts(s.Backends), Tenant: text(s.Tenant),
		Resources: &pb.Resources{
			CpuMillicores: s.Resources.CPUMilli, MemBytes: s.Resources.MemBytes, Gpus: int32(s.Resources.GPUs),
			GpuMemBytes: s.Resources.GPUMem, GpuModel: text(s.Resources.GPUModel), Mig: text(s.Resources.MIG),
		},
	}
	p.ContainerDir, p.Network, p.ImageEntrypoint = text(s.ContainerDir), text(s.Network), s.ImageEntrypoint
	p.ClassTimeout = s.ClassTimeout
	for _, m := range s.Mounts {
		p.Mounts = append(p.Mounts, &pb.Mount{HostPath: text(m.Host), MountPath: text(m.Target), ReadOnly: m.ReadOnly})
	}
	if s.OnLost == task.LostRetry {
		p.OnLost = "retry"
	}
	for _, d := range s.After {
		p.After = append(p.After, &pb.Dependency{Id: text(d.ID), When: d.When.String()})
	}
	return p
}

// acceptedTo converts the queue's answer to the submission with that id.
func acceptedTo(id string, a Accepted) *pb.SubmitTaskResponse {
	switch {
	case a.Err != nil:
		return refusedTo(id, a.Err)
	case a.Final != nil:
		return &pb.SubmitTaskResponse{Success: true, TaskId: text(a.Final.ID), Existing: true, Seq: uint64(a.Final.Seq)}
	default:
		return &pb.SubmitTaskResponse{Success: true, TaskId: text(a.Task.Spec.ID), Existing: a.Existing, Seq: uint64(a.Task.Seq)}
	}
}

func refusedTo(id string, err error) *pb.SubmitTaskResponse {
	return &pb.SubmitTaskResponse{TaskId: text(id), Error: text(err.Error()), Code: task.CodeOf(err).String()}
}

// taskTo converts a task without its spec, its result and its output's path.
func taskTo(t task.Task) *pb.TaskInfo {
	s := t.Status()
	p := &pb.TaskInfo{
		Id: text(t.Spec.ID), Seq: uint64(t.Seq), Name: text(nameOf(t.Spec)), Class: text(t.Spec.Class), Priority: t.Spec.Priority,
		State: s.State.String(), Status: s.State.Wire(), Attempt: int32(s.Attempt),
		Backend: text(s.Backend), Detail: text(s.Detail), CancelAsked: s.Cancel != nil,
		SubmittedAtNs: int64(t.Spec.SubmittedAt), AssignedAtNs: int64(s.AssignedAt), StartingAtNs: int64(s.StartingAt),
		StartedAtNs: int64(s.StartedAt), StoppingAtNs: int64(s.StoppingAt), EndedAtNs: int64(s.EndedAt), NotBeforeNs: int64(s.NotBefore),
		Gpus: texts(s.Lease.GPUs), GpuMemBytes: s.Lease.GPUMem,
		Blocked: int32(s.Blocked), SubmittedVia: text(t.Spec.Via), Held: text(s.Held),
	}
	if s.State.Terminal() {
		p.Outcome = outcomeTo(s.Outcome)
	}
	for _, a := range s.Past {
		p.Past = append(p.Past, &pb.AttemptInfo{
			Number: int32(a.Number), State: a.State.String(), Backend: text(a.Backend),
			AssignedAtNs: int64(a.AssignedAt), StartedAtNs: int64(a.StartedAt), EndedAtNs: int64(a.EndedAt), Outcome: outcomeTo(a.Outcome),
		})
	}
	return p
}

func outcomeTo(o task.Outcome) *pb.Outcome {
	p := &pb.Outcome{
		ExitCode: int32(o.ExitCode), Signal: int32(o.Signal), FailureClass: o.Class.String(), Message: text(o.Message),
		Node: text(o.Node), MaxRssBytes: o.MaxRSS, CpuTimeNs: int64(o.CPUTime),
	}
	if g := o.GPU; g.Held > 0 {
		p.Gpu = &pb.GPUUse{SecondsHeld: g.Held.Seconds(), SecondsBusy: -1, MemPeakBytes: g.Peak}
		if g.Busy >= 0 {
			p.Gpu.SecondsBusy = g.Busy.Seconds()
		}
	}
	return p
}

// ending is the end of a task, whether it was read from the task itself or from
// the event log.
type ending struct {
	id, class, backend string
	state              task.State
	attempt            int
	at                 task.Instant
	ran                time.Duration
	outcome            task.Outcome
	result             task.Result // nil when there is none, or no longer
}

// endingOf reads the end of a task that has ended.
func endingOf(t task.Task, result task.Result) ending {
	s := t.Status()
	return ending{
		id: t.Spec.ID, class: t.Spec.Class, backend: s.Backend, state: s.State, attempt: s.Attempt,
		at: s.EndedAt, ran: t.Ran(s.EndedAt), outcome: s.Outcome, result: result,
	}
}

// endingOfRecord reads the end of a task from the event log, which has no result.
func endingOfRecord(r task.Record) ending {
	return ending{
		id: r.ID, class: r.Class, backend: r.Backend, state: r.To, attempt: r.Attempt, at: r.At, outcome: r.Outcome,
	}
}

// endingOfFinal reads the end of a task from what retention has left of it.
func endingOfFinal(f task.Final) ending {
	return ending{
		id: f.ID, state: f.State, at: f.EndedAt,
		outcome: task.Outcome{Message: fmt.Sprintf("the task is %s; it was removed by retention, and no more is known of it", f.State)},
	}
}

// failure says why a task has not succeeded; "" when it has.
func (e ending) failure() string {
	switch {
	case e.state == task.Succeeded:
		return ""
	case e.outcome.Message != "":
		return text(e.outcome.Message)
	default:
		return "the task is " + e.state.String()
	}
}

func (e ending) milliseconds() float64 { return float64(e.ran) / float64(time.Millisecond) }

// values are the result as the wire has it: the members of the object that the
// program gave back, those that are not text as JSON text, with the whole of it
// as data_json, and beside them what we know. Ours win: data_json has the others.
func (e ending) values() map[string]string {
	out := map[string]string{}
	var members map[string]json.RawMessage
	if len(e.result) > 0 && json.Unmarshal(e.result, &members) == nil {
		for k, v := range members {
			out[text(k)] = plain(v)
		}
		out["data_json"] = text(string(e.result))
	}
	out["exit_code"] = strconv.Itoa(e.outcome.ExitCode)
	out["duration_ms"] = strconv.FormatFloat(e.milliseconds(), 'f', -1, 64)
	out["backend"] = text(e.backend)
	out["class"] = text(e.class)
	out["attempt"] = strconv.Itoa(e.attempt)
	if g := e.outcome.GPU; g.Held > 0 {
		out["gpu_seconds_held"] = seconds(g.Held)
		if g.Busy >= 0 {
			out["gpu_seconds_busy"] = seconds(g.Busy)
		}
		if g.Peak > 0 {
			out["gpu_mem_peak_bytes"] = strconv.FormatInt(g.Peak, 10)
		}
	}
	return out
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', 3, 64) }

// plain returns the text of a JSON string, and other JSON as it is.
func plain(v json.RawMessage) string {
	var s string
	if json.Unmarshal(v, &s) == nil && len(v) > 0 && v[0] == '"' {
		return s
	}
	return text(string(v))
}

// resultTo converts an ending; index is where a stream resumes behind it.
func resultTo(e ending, index uint64) *pb.TaskResult {
	return &pb.TaskResult{
		TaskId: text(e.id), Status: e.state.Wire(), Result: e.values(), Error: e.failure(),
		DurationMs: e.milliseconds(), CompletedAt: e.at.Time().Unix(),
		Index: index, State: e.state.String(), Attempt: int32(e.attempt), ExitCode: int32(e.outcome.ExitCode), Signal: int32(e.outcome.Signal),
		FailureClass: e.outcome.Class.String(), Backend: text(e.backend), Class: text(e.class),
	}
}

// statusTo converts what the contract's status call tells.
func statusTo(t task.Task, result task.Result) *pb.GetTaskStatusResponse {
	p := &pb.GetTaskStatusResponse{
		TaskId: text(t.Spec.ID), Status: t.State().Wire(), State: t.State().String(), Attempt: int32(t.Attempt()),
	}
	if t.State().Terminal() {
		e := endingOf(t, result)
		p.Result, p.Error = e.values(), e.failure()
	}
	return p
}

// eventTo converts a record that is an event of that type.
func eventTo(r task.Record, eventType string) *pb.SystemEvent {
	out := &pb.SystemEvent{
		EventType: eventType, ResourceId: text(r.ID), Data: eventData(r), Timestamp: r.At.Time().Unix(), Index: r.Index, TimestampNs: int64(r.At),
	}
	if r.Kind == task.EventGPUFailed {
		out.Data = map[string]string{"gpu": text(r.ID), "text": text(r.Text)}
	}
	return out
}

// eventData is what there is to say of a task's event.
func eventData(r task.Record) map[string]string {
	data := map[string]string{
		"task_id": text(r.ID), "class": text(r.Class), "attempt": strconv.Itoa(r.Attempt),
		"state": r.To.String(), "status": r.To.Wire(),
	}
	put := func(key, value string) {
		if value != "" {
			data[key] = text(value)
		}
	}
	put("backend", r.Backend)
	put("text", r.Text)
	if r.To.Terminal() {
		data["exit_code"] = strconv.Itoa(r.Outcome.ExitCode)
		put("error", r.Outcome.Message)
		put("failure_class", r.Outcome.Class.String())
	}
	if r.Again {
		data["status"] = task.WirePending
		data["not_before"] = r.NotBefore.Time().UTC().Format(time.RFC3339Nano)
	}
	return data
}

// healthTo converts what the daemon tells about itself.
func healthTo(i Info, c task.Counts) *pb.HealthResponse {
	services := make(map[string]string, len(i.Services))
	for name, status := range i.Services {
		services[text(name)] = text(status)
	}
	p := &pb.HealthResponse{
		Healthy: i.Healthy, Version: i.Version, Services: services, Workspace: text(i.Workspace), Pid: int32(i.PID),
		StartedAtNs: int64(task.At(i.StartedAt)), QueueId: i.QueueID, QueueDir: text(i.QueueDir), LogFile: text(i.LogFile), Role: i.Role,
		ConfigFile: text(i.ConfigFile),
	}
	if !i.ConfigChanged.IsZero() {
		p.ConfigChangedAtNs = i.ConfigChanged.UnixNano()
	}
	for _, k := range i.Classes {
		states := map[string]int64{}
		for s, n := range c[k.Name] {
			states[s.String()] = int64(n)
		}
		status := &pb.ClassStatus{Class: k.Name, States: states, Parallel: int32(k.Parallel)}
		if k.Paused != nil {
			status.Paused, status.PausedBy, status.PausedReason = true, text(k.Paused.By), text(k.Paused.Reason)
			status.PausedAtMs = milliseconds(k.Paused.At)
		}
		p.Classes = append(p.Classes, status)
	}
	return p
}
