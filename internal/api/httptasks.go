package api

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// taskAnswer is the body of GET /tasks/{id}. The first three are the contract's.
type taskAnswer struct {
	Status  string         `json:"status"` // one of the wire's four
	Error   string         `json:"error"`  // "" = none
	Result  map[string]any `json:"result"` // empty until the task has ended
	TaskID  string         `json:"task_id"`
	Class   string         `json:"class"`
	State   string         `json:"state"` // the exact one
	Attempt int            `json:"attempt"`
}

func (h *HTTPServer) getTask(w http.ResponseWriter, r *http.Request) error {
	t, result, err := h.find(r.PathValue("id"))
	if err != nil {
		return err
	}
	answer := taskAnswer{
		Status: t.State().Wire(), Result: map[string]any{},
		TaskID: text(t.Spec.ID), Class: text(t.Spec.Class), State: t.State().String(), Attempt: t.Attempt(),
	}
	if t.State().Terminal() {
		answer.Result, answer.Error = ResultOf(t, result)
	}
	return rpc.AnswerOK(w, answer)
}

// find is lookup, with what helps a program that calls with an id that nobody knows.
func (h *HTTPServer) find(id string) (task.Task, task.Result, error) {
	t, result, err := h.lookup(id)
	if task.CodeOf(err) == task.CodeNotFound && !errors.Is(err, task.ErrRemoved) {
		err = task.Errorf(task.CodeNotFound, "%w; the answer to POST /tasks, or to POST /queue/submit, has the id of its task", err)
	}
	return t, result, err
}

// members are the result as JSON has it: under the same keys as values, each with
// the value that the program gave it. data_json stays text.
func (e ending) members() map[string]any {
	out := map[string]any{}
	var given map[string]json.RawMessage
	if len(e.result) > 0 && json.Unmarshal([]byte(text(string(e.result))), &given) == nil {
		for k, v := range given {
			out[k] = v
		}
		out["data_json"] = text(string(e.result))
	}
	out["exit_code"] = e.outcome.ExitCode
	out["duration_ms"] = e.milliseconds()
	out["backend"] = text(e.backend)
	out["class"] = text(e.class)
	out["attempt"] = e.attempt
	return out
}
