package api

import (
	"net/http"

	"github.com/dspy-agent/dspy-agent/internal/envelope"
	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// queueSubmitAnswer is the body of POST /queue/submit. It is there once the task
// is on disk.
type queueSubmitAnswer struct {
	OK         bool     `json:"ok"`
	ID         string   `json:"id"`
	Status     string   `json:"status,omitempty"`       // "submitted", in classes that are for Slurm alone
	SlurmJobID string   `json:"slurm_job_id,omitempty"` // once Slurm has accepted the job
	Ignored    []string `json:"ignored,omitempty"`      // keys that say nothing to us
}

// postQueueSubmit answers 400 for every task that is refused for what it is, as
// the contract has it. That there is no room for it now is something else.
func (h *HTTPServer) postQueueSubmit(w http.ResponseWriter, r *http.Request) error {
	id, ignored, err := h.submitBody(w, r)
	answer := queueSubmitAnswer{OK: true, ID: id, Ignored: ignored}
	if err == nil {
		err = h.awaitJob(r.Context(), &answer)
	}
	if err != nil {
		if p := rpc.ProblemOf(err); p.Code == task.CodeConflict.String() || p.Code == task.CodeUnsupported.String() {
			return rpc.HTTPErrorf(http.StatusBadRequest, p.Code, "%s", p.Detail)
		}
		return err
	}
	return rpc.AnswerOK(w, answer)
}

// postTasksAnswer is the body of POST /tasks. It is there once the task is on disk.
type postTasksAnswer struct {
	TaskID  string   `json:"task_id"`
	Ignored []string `json:"ignored,omitempty"`
}

func (h *HTTPServer) postTasks(w http.ResponseWriter, r *http.Request) error {
	id, ignored, err := h.submitBody(w, r)
	if err != nil {
		return err
	}
	return rpc.AnswerOK(w, postTasksAnswer{TaskID: id, Ignored: ignored})
}

// submitBody accepts the task that the body describes.
func (h *HTTPServer) submitBody(w http.ResponseWriter, r *http.Request) (id string, ignored []string, err error) {
	body, release, err := h.http.Body(w, r)
	defer release()
	if err != nil {
		return "", nil, err
	}
	asked, err := envelope.Body.Read(body)
	if err != nil {
		return "", nil, err
	}
	answers, err := h.accept(r.Context(), []order{{
		SubmitTaskRequest: &pb.SubmitTaskRequest{Id: asked.ID, Class: asked.Class, Priority: asked.Priority},
		fields:            asked.Payload,
	}})
	if err != nil {
		return "", nil, err
	}
	a := answers[0]
	if !a.GetSuccess() {
		return "", nil, task.Errorf(rpc.CodeNamed(a.GetCode()), "%s", a.GetError())
	}
	return a.GetTaskId(), asked.Unknown, nil
}
