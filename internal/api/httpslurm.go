package api

import (
	"context"
	"net/http"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

const (
	// jobPatience is how long the answer to a submission waits for Slurm to accept the job.
	jobPatience = 5 * time.Second
	// jobWaiters is of how many requests that are worked on one may wait so.
	jobWaiters = 4
	// statusSubmitted is the contract's word in the answer.
	statusSubmitted = "submitted"
)

// awaitJob waits a while until Slurm has accepted the job of a task whose class has nothing
// else, and adds its number to the answer. Slurm's refusal is one of the submission.
func (h *HTTPServer) awaitJob(ctx context.Context, answer *queueSubmitAnswer) error {
	jobs := h.opts.Jobs
	if jobs == nil {
		return nil
	}
	t, err := h.opts.Queue.Lookup(answer.ID)
	if err != nil || !jobs.Only(t.Spec.Class) {
		return nil //nolint:nilerr // it is on disk, and that is what the answer says
	}
	answer.Status = statusSubmitted
	ctx, cancel := h.rpc.UntilStop(ctx)
	defer cancel()
	ctx, cancel = context.WithTimeout(ctx, jobPatience)
	defer cancel()
	changed, forget := h.feed.watch(t.Seq)
	defer forget()
	patient := h.mayWait()
	defer patient.over()
	for {
		if t, err = h.opts.Queue.Lookup(answer.ID); err != nil {
			return nil //nolint:nilerr // as above
		}
		if answer.SlurmJobID = text(jobs.Number(t)); answer.SlurmJobID != "" {
			return nil
		}
		if t.State() == task.Failed {
			return task.Errorf(task.CodeInvalid, "task %s was accepted, and failed before it was a job: %s", t.Spec.ID, t.Status().Outcome.Message)
		}
		if t.State().Terminal() || !patient.may {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// turn is one of the places of those who wait for Slurm.
type turn struct {
	may    bool
	places chan struct{}
}

func (h *HTTPServer) mayWait() turn {
	select {
	case h.waiting <- struct{}{}:
		return turn{true, h.waiting}
	default:
		return turn{}
	}
}

func (t turn) over() {
	if t.may {
		<-t.places
	}
}

// slurmAnswer is the body of GET /slurm/status/{task_id}.
type slurmAnswer struct {
	ID         string `json:"id"` // the job's number; "" = Slurm has not accepted it yet
	TaskID     string `json:"task_id"`
	Status     string `json:"status"` // one of the wire's four
	State      string `json:"state"`  // the exact one of the task
	Detail     string `json:"detail,omitempty"`
	SubmitTime string `json:"submit_time"` // when Slurm accepted it, before that when the task was submitted
	StartTime  string `json:"start_time,omitempty"`
	EndTime    string `json:"end_time,omitempty"`
	ExitCode   *int   `json:"exit_code,omitempty"` // of a program that ended by itself
	Error      string `json:"error,omitempty"`
}

// getSlurmStatus tells of the job that a task is, or is going to be.
func (h *HTTPServer) getSlurmStatus(w http.ResponseWriter, r *http.Request) error {
	t, result, err := h.find(r.PathValue("task_id"))
	if err != nil {
		return err
	}
	jobs, s := h.opts.Jobs, t.Status()
	if jobs == nil || s.Backend != backendSlurm && (s.Backend != "" || !jobs.Only(t.Spec.Class)) {
		return task.Errorf(task.CodeNotFound, "task %s was not given to Slurm; GET /tasks/%s tells about it", t.Spec.ID, t.Spec.ID)
	}
	answer := slurmAnswer{
		ID: text(jobs.Number(t)), TaskID: text(t.Spec.ID), Status: s.State.Wire(), State: s.State.String(), Detail: text(s.Detail),
		SubmitTime: timeText(t.Spec.SubmittedAt), StartTime: timeText(s.StartedAt), EndTime: timeText(s.EndedAt),
	}
	if s.StartingAt != 0 {
		answer.SubmitTime = timeText(s.StartingAt)
	}
	if s.State.Terminal() {
		_, answer.Error = ResultOf(t, result)
		if code := s.Outcome.ExitCode; code >= 0 && s.Outcome.Signal == 0 && s.StartedAt != 0 {
			answer.ExitCode = &code
		}
	}
	return rpc.AnswerOK(w, answer)
}

// timeText is a time as JSON has it; "" = there is none.
func timeText(at task.Instant) string {
	if at == 0 {
		return ""
	}
	return at.Time().UTC().Format(time.RFC3339Nano)
}
