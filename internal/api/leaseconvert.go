package api

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/lease"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// What workers and the owner of the queue say to each other, to the wire and back.

func refTo(r task.Ref) *pb.AttemptRef {
	return &pb.AttemptRef{Seq: uint64(r.Seq), Attempt: int32(r.Attempt)}
}

func refFrom(r *pb.AttemptRef) task.Ref {
	return task.Ref{Seq: task.Seq(r.GetSeq()), Attempt: int(r.GetAttempt())}
}

func refsTo(refs []task.Ref) []*pb.AttemptRef {
	out := make([]*pb.AttemptRef, len(refs))
	for i, r := range refs {
		out[i] = refTo(r)
	}
	return out
}

func refsFrom(refs []*pb.AttemptRef) []task.Ref {
	out := make([]task.Ref, len(refs))
	for i, r := range refs {
		out[i] = refFrom(r)
	}
	return out
}

func grantTo(g lease.Grant) *pb.LeaseTasksResponse {
	out := &pb.LeaseTasksResponse{Lease: g.Lease}
	var last []string
	for _, t := range g.Tasks {
		s := t.Spec
		if len(out.Environments) == 0 || !slices.Equal(last, s.Ambient) {
			out.Environments = append(out.Environments, &pb.LeasedEnvironment{Entries: bytesOf(s.Ambient)})
			last = s.Ambient
		}
		out.Tasks = append(out.Tasks, &pb.LeasedTask{
			Seq: uint64(t.Seq), Attempt: int32(t.Attempt()), Id: s.ID, Class: s.Class,
			Argv: bytesOf(s.Argv), Dir: []byte(s.Dir), Env: bytesOf(s.Env), Environment: int32(len(out.Environments) - 1),
			Payload: s.Payload, Builtin: s.Builtin, TimeoutNs: int64(s.Timeout), GraceNs: int64(s.Grace),
			CpuMilli: s.Resources.CPUMilli, MemBytes: s.Resources.MemBytes, Gpus: int32(s.Resources.GPUs),
		})
	}
	return out
}

func grantFrom(m *pb.LeaseTasksResponse) (lease.Grant, error) {
	g := lease.Grant{Lease: m.GetLease()}
	environments := make([][]string, len(m.GetEnvironments()))
	for i, e := range m.GetEnvironments() {
		environments[i] = textsOf(e.GetEntries())
	}
	for _, l := range m.GetTasks() {
		s := &task.Spec{
			ID: l.GetId(), Class: l.GetClass(), Argv: textsOf(l.GetArgv()), Dir: string(l.GetDir()), Env: textsOf(l.GetEnv()),
			Builtin: l.GetBuiltin(), Timeout: time.Duration(l.GetTimeoutNs()), Grace: time.Duration(l.GetGraceNs()),
			Resources: task.Resources{CPUMilli: l.GetCpuMilli(), MemBytes: l.GetMemBytes(), GPUs: int(l.GetGpus())},
		}
		if len(l.GetPayload()) > 0 {
			s.Payload = json.RawMessage(l.GetPayload())
		}
		if n := int(l.GetEnvironment()); n >= 0 && n < len(environments) {
			s.Ambient = environments[n]
		}
		t, err := task.Assign(task.Ref{Seq: task.Seq(l.GetSeq()), Attempt: int(l.GetAttempt())}, s)
		if err != nil {
			return lease.Grant{}, err
		}
		g.Tasks = append(g.Tasks, t)
	}
	return g, nil
}

func bytesOf(texts []string) [][]byte {
	out := make([][]byte, len(texts))
	for i, t := range texts {
		out[i] = []byte(t)
	}
	return out
}

func textsOf(list [][]byte) []string {
	out := make([]string, len(list))
	for i, b := range list {
		out[i] = string(b)
	}
	return out
}

// leaseEvents are those that a worker may report.
var leaseEvents = []task.EventKind{
	task.EventLaunched, task.EventStarted, task.EventStopping, task.EventStopped, task.EventExited, task.EventNotStarted, task.EventVanished,
}

func reportsTo(reports []lease.Report) []*pb.AttemptReport {
	out := make([]*pb.AttemptReport, len(reports))
	for i, r := range reports {
		m := &pb.AttemptReport{Attempt: refTo(r.Ref), Lease: r.Lease, Returned: r.Returned}
		for _, c := range r.Changes {
			ev, o := c.Event, c.Event.Outcome
			m.Events = append(m.Events, &pb.AttemptEvent{
				Kind: ev.Kind.String(), At: int64(ev.At), Handle: ev.Handle, Timeout: ev.Cause == task.CauseTimeout, Unprompted: ev.Unprompted,
				Failure: ev.Class.String(), Text: text(ev.Text), ExitCode: int32(o.ExitCode), Signal: int32(o.Signal), OutcomeFailure: o.Class.String(),
				Message: text(o.Message), Node: o.Node, MaxRss: o.MaxRSS, CpuNs: int64(o.CPUTime),
			})
			if c.Result != nil {
				m.Result = c.Result
			}
		}
		out[i] = m
	}
	return out
}

func reportsFrom(list []*pb.AttemptReport) ([]lease.Report, error) {
	out := make([]lease.Report, len(list))
	for i, m := range list {
		r := lease.Report{Ref: refFrom(m.GetAttempt()), Lease: m.GetLease(), Returned: m.GetReturned()}
		for _, e := range m.GetEvents() {
			c, err := changeFrom(r.Ref, e)
			if err != nil {
				return nil, err
			}
			if c.Event.Kind == task.EventExited && len(m.GetResult()) > 0 {
				if !json.Valid(m.GetResult()) {
					return nil, task.Errorf(task.CodeInvalid, "the result of attempt %d of task %d is not JSON", r.Ref.Attempt, r.Ref.Seq)
				}
				c.Result = m.GetResult()
			}
			r.Changes = append(r.Changes, c)
		}
		out[i] = r
	}
	return out, nil
}

func changeFrom(ref task.Ref, e *pb.AttemptEvent) (task.Change, error) {
	i := slices.IndexFunc(leaseEvents, func(k task.EventKind) bool { return k.String() == e.GetKind() })
	if i < 0 {
		return task.Change{}, task.Errorf(task.CodeInvalid, "a worker cannot report %q", e.GetKind())
	}
	ev := task.Event{
		Kind: leaseEvents[i], At: task.Instant(e.GetAt()), Attempt: ref.Attempt, Handle: e.GetHandle(), Unprompted: e.GetUnprompted(),
		Class: failureFrom(e.GetFailure()), Text: e.GetText(),
		Outcome: task.Outcome{
			ExitCode: int(e.GetExitCode()), Signal: int(e.GetSignal()), Class: failureFrom(e.GetOutcomeFailure()), Message: e.GetMessage(),
			Node: e.GetNode(), MaxRSS: e.GetMaxRss(), CPUTime: time.Duration(e.GetCpuNs()),
		},
	}
	if e.GetTimeout() {
		ev.Cause = task.CauseTimeout
	}
	return task.Change{Seq: ref.Seq, Event: ev}, nil
}

func failureFrom(name string) task.FailureClass {
	for _, c := range task.FailureClasses() {
		if c.String() == name {
			return c
		}
	}
	return task.NoFailure
}
