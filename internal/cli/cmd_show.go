package cli

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/gpu"
	"github.com/dspy-agent/dspy-agent/internal/shellword"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

func (s *session) showCommand() *cli.Command {
	return s.command(cli.Command{
		Name: "show", Usage: "show all that is known about a task", ArgsUsage: "ID", Category: categorySubmit,
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			id, err := oneID(c)
			if err != nil {
				return err
			}
			return s.withClient(c, reads, func(ctx context.Context, cl *client) error {
				info, err := s.getTask(ctx, cl, id)
				if err != nil {
					return err
				}
				if c.Bool("json") {
					return writeJSON(s.out, taskJSON(info, s.now()))
				}
				s.show(info, s.reason(ctx, cl, info))
				return nil
			})
		},
	})
}

// reason is why a task that has not ended is where it is; "" when the daemon cannot
// tell at the moment.
func (s *session) reason(ctx context.Context, cl *client, t *pb.TaskInfo) string {
	if ended(t) {
		return ""
	}
	answer, err := cl.ExplainTask(ctx, &pb.ExplainTaskRequest{TaskId: t.GetId()})
	if err != nil {
		return ""
	}
	return oneLine(answer.GetReason())
}

// show prints a task for people.
func (s *session) show(t *pb.TaskInfo, reason string) {
	s.field("id", s.out.paint(bold, t.GetId()))
	s.field("name", oneLine(t.GetName()))
	s.field("class", t.GetClass())
	if t.GetPriority() != 0 {
		s.field("priority", fmt.Sprint(t.GetPriority()))
	}
	state := s.out.state(t.GetState())
	if w := word(t); w != "" {
		state += ": " + w
	}
	s.field("state", state)
	s.field("why", reason)
	s.showSpec(t.GetSpec())
	s.field("backend", t.GetBackend())
	s.field("gpus", strings.Join(t.GetGpus(), ", "))
	s.showTimes(t)
	s.showOutcome(t)
	if t.GetStartedAtNs() != 0 { // before that there is no such file
		s.field("output", t.GetLogPath())
	}
	if n := len(t.GetResultJson()); n > 0 {
		s.field("result", fmt.Sprintf("%s of JSON; %s result %s prints it", humanize.IBytes(uint64(n)), Program, t.GetId()))
	}
	s.showAttempts(t)
}

// field prints one line, unless there is nothing to say.
func (s *session) field(name, value string) {
	if value != "" {
		s.out.printf("%-10s %s\n", name, value)
	}
}

func (s *session) showSpec(spec *pb.TaskSpec) {
	if spec == nil {
		return
	}
	if spec.GetImage() == "" {
		s.field("command", oneLine(shellword.Join(spec.GetArgv())))
		s.field("folder", oneLine(spec.GetDir()))
	} else {
		s.showContainer(spec)
	}
	s.field("needs", needs(spec.GetResources()))
	s.field("env", environment(spec))
	if n := len(spec.GetPayloadJson()); n > 0 {
		s.field("payload", s.out.clip(oneLine(string(spec.GetPayloadJson())), 200))
	}
	if d := spec.GetTimeoutMs(); d > 0 {
		text := task.LimitText(time.Duration(d) * time.Millisecond)
		if spec.GetClassTimeout() {
			text += ", which its class enforces"
		}
		s.field("timeout", text)
	}
	if n := spec.GetRetries(); n > 0 {
		s.field("retries", fmt.Sprint(n))
	}
	var after []string
	for _, d := range spec.GetAfter() {
		after = append(after, d.GetId()+":"+d.GetWhen())
	}
	s.field("after", strings.Join(after, " "))
}

// showContainer says what a program in a container gets: nothing of the host's but what is
// mounted, and none of the variables of the shell.
func (s *session) showContainer(spec *pb.TaskSpec) {
	own := "the image's own"
	s.field("image", oneLine(spec.GetImage()))
	s.field("command", cmp.Or(oneLine(shellword.Join(spec.GetArgv())), own))
	s.field("folder", cmp.Or(oneLine(spec.GetContainerDir()), own))
	for _, m := range spec.GetMounts() {
		text := m.GetHostPath() + " as " + m.GetMountPath()
		if m.GetReadOnly() {
			text += ", read only"
		}
		s.field("mount", oneLine(text))
	}
}

// needs says what a task asked for of the machine; "" where it asked for nothing.
func needs(r *pb.Resources) string {
	var parts []string
	switch milli := r.GetCpuMillicores(); milli {
	case 0:
	case 1000:
		parts = append(parts, "1 CPU")
	default:
		parts = append(parts, humanize.Ftoa(float64(milli)/1000)+" CPUs")
	}
	if mem := r.GetMemBytes(); mem > 0 {
		parts = append(parts, humanize.IBytes(uint64(mem))+" of memory")
	}
	ask := gpu.Request{GPUs: int(r.GetGpus()), Bytes: r.GetGpuMemBytes(), Model: r.GetGpuModel(), MIG: r.GetMig()}
	if !ask.None() {
		parts = append(parts, ask.String())
	}
	return strings.Join(parts, ", ")
}

// environment says how many variables a task has, and where from.
func environment(spec *pb.TaskSpec) string {
	var parts []string
	if n := len(spec.GetEnv()); n > 0 {
		parts = append(parts, count(int64(n), "variable")+" of --env, which --json lists")
	}
	if n := len(spec.GetAmbientEnv()); n > 0 && spec.GetImage() == "" {
		parts = append(parts, count(int64(n), "variable")+" taken along")
	}
	return strings.Join(parts, "; ")
}

func (s *session) showTimes(t *pb.TaskInfo) {
	for _, f := range []struct {
		name string
		at   int64
	}{
		{"submitted", t.GetSubmittedAtNs()}, {"started", t.GetStartedAtNs()}, {"stopping", t.GetStoppingAtNs()},
		{"ended", t.GetEndedAtNs()}, {"not before", notYet(t.GetNotBeforeNs(), s.now())},
	} {
		switch soon := f.at - s.now().UnixNano(); {
		case f.at == 0:
		case soon > 0 && soon < int64(time.Second):
			s.field(f.name, clock(f.at)+" (in a moment)")
		default:
			s.field(f.name, clock(f.at)+" ("+ago(f.at, s.now())+")")
		}
	}
	if ranKnown(t) {
		s.field("ran", span(ran(t, s.now())))
	}
}

// notYet returns a time only if it is to come.
func notYet(ns int64, now time.Time) int64 {
	if ns <= now.UnixNano() {
		return 0
	}
	return ns
}

func (s *session) showOutcome(t *pb.TaskInfo) {
	if t.GetEndedAtNs() == 0 {
		return
	}
	o := t.GetOutcome()
	if code := exitCodeOf(o, true); code != nil {
		s.field("exit code", fmt.Sprint(*code))
	}
	if o.GetSignal() != 0 {
		s.field("signal", fmt.Sprint(o.GetSignal()))
	}
	s.field("failure", o.GetFailureClass())
	s.field("node", o.GetNode())
	if o.GetMaxRssBytes() > 0 {
		s.field("memory", humanize.IBytes(uint64(o.GetMaxRssBytes()))+" at its peak")
	}
	if o.GetCpuTimeNs() > 0 {
		s.field("cpu time", span(time.Duration(o.GetCpuTimeNs())))
	}
	if u := o.GetGpu(); u != nil {
		busy := "use not known"
		if u.GetSecondsBusy() >= 0 {
			busy = "busy for " + span(time.Duration(u.GetSecondsBusy()*float64(time.Second)))
		}
		s.field("gpu time", "held for "+span(time.Duration(u.GetSecondsHeld()*float64(time.Second)))+", "+busy+" (sampled)")
		if u.GetMemPeakBytes() > 0 {
			s.field("gpu memory", humanize.IBytes(uint64(u.GetMemPeakBytes()))+" at its peak")
		}
	}
}

// showAttempts is the history of a task that was tried more than once.
func (s *session) showAttempts(t *pb.TaskInfo) {
	if len(t.GetPast()) == 0 {
		return
	}
	g := grid{header: []string{"ATTEMPT", "STATE", "BACKEND", "STARTED", "RAN", "WHY"}, right: []int{0, 4}, whole: []int{1}}
	row := func(number int32, state, backend string, started, end int64, why string) {
		begun, took := "never", ""
		if started != 0 {
			begun = clock(started)
			if end != 0 {
				took = span(time.Duration(end - started))
			}
		}
		g.add(fmt.Sprint(number), s.out.state(state), backend, begun, took, why)
	}
	for _, a := range t.GetPast() {
		row(a.GetNumber(), a.GetState(), a.GetBackend(), a.GetStartedAtNs(), a.GetEndedAtNs(), oneLine(a.GetOutcome().GetMessage()))
	}
	row(t.GetAttempt(), t.GetState(), t.GetBackend(), t.GetStartedAtNs(), t.GetEndedAtNs(), word(t))
	s.out.printf("\n")
	g.write(s.out)
}
