package api

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/payload"
	"github.com/dspy-agent/dspy-agent/internal/spelling"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// queueSubmitAnswer is the body of POST /queue/submit. It is there once the task
// is on disk.
type queueSubmitAnswer struct {
	OK      bool     `json:"ok"`
	ID      string   `json:"id"`
	Ignored []string `json:"ignored,omitempty"` // keys that say nothing to us
}

// postQueueSubmit answers 400 for every task that is refused for what it is, as
// the contract has it. That there is no room for it now is something else.
func (h *HTTPServer) postQueueSubmit(w http.ResponseWriter, r *http.Request) error {
	id, ignored, err := h.submitBody(w, r)
	if err != nil {
		if p := problemOf(err); p.Code == task.CodeConflict.String() || p.Code == task.CodeUnsupported.String() {
			return httpErrorf(http.StatusBadRequest, p.Code, "%s", p.Detail)
		}
		return err
	}
	return answerOK(w, queueSubmitAnswer{OK: true, ID: id, Ignored: ignored})
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
	return answerOK(w, postTasksAnswer{TaskID: id, Ignored: ignored})
}

// submitBody accepts the task that the body describes.
func (h *HTTPServer) submitBody(w http.ResponseWriter, r *http.Request) (id string, ignored []string, err error) {
	body, release, err := h.body(w, r)
	defer release()
	if err != nil {
		return "", nil, err
	}
	asked, ignored, err := readSubmission(body)
	if err != nil {
		return "", nil, err
	}
	answers, err := h.accept(r.Context(), []order{asked})
	if err != nil {
		return "", nil, err
	}
	a := answers[0]
	if !a.GetSuccess() {
		return "", nil, task.Errorf(codeNamed(a.GetCode()), "%s", a.GetError())
	}
	return a.GetTaskId(), ignored, nil
}

// The keys of a submission.
var submissionKeys = []string{"id", "class", "priority", "payload"}

// readSubmission reads the body of a submission. ignored are the keys that say
// nothing to us.
func readSubmission(body []byte) (asked order, ignored []string, err error) {
	if err := checkJSON(body); err != nil {
		return order{}, nil, err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return order{}, nil, task.Errorf(task.CodeInvalid, "the body is not a JSON object: %w", err)
	}
	for k, v := range members {
		if string(v) == "null" {
			delete(members, k) // as if it were not there
		}
	}
	req := &pb.SubmitTaskRequest{}
	if req.Id, err = textMember(members, "id"); err != nil {
		return order{}, nil, err
	}
	if req.Class, err = textMember(members, "class"); err != nil {
		return order{}, nil, err
	}
	if req.Priority, err = priorityMember(members); err != nil {
		return order{}, nil, err
	}
	fields, err := payloadMember(members)
	if err != nil {
		return order{}, nil, err
	}
	ignored, err = strangers(members, fields)
	return order{SubmitTaskRequest: req, fields: fields}, ignored, err
}

func textMember(members map[string]json.RawMessage, key string) (string, error) {
	var s string
	v, there := members[key]
	if there && json.Unmarshal(v, &s) != nil {
		return "", task.Errorf(task.CodeInvalid, "%q is %s; it has to be a text in double quotes", key, kindOf(v))
	}
	return s, nil
}

func priorityMember(members map[string]json.RawMessage) (int32, error) {
	v, there := members["priority"]
	if !there {
		return 0, nil
	}
	n, err := strconv.ParseInt(string(v), 10, 32)
	if err != nil {
		return 0, task.Errorf(task.CodeInvalid, `"priority" is %s; it has to be a whole number from %d to %d, without quotes`,
			shortened(string(v)), -task.MaxPriority, task.MaxPriority)
	}
	return int32(n), nil
}

// payloadMember returns no nil without an error: nothing is an empty payload.
func payloadMember(members map[string]json.RawMessage) (payload.Fields, error) {
	v, there := members["payload"]
	switch {
	case !there:
		return payload.Fields{}, nil
	case v[0] == '"':
		return nil, task.Errorf(task.CodeInvalid, `"payload" is a text; send the object itself, without quotes around it`)
	case v[0] != '{':
		return nil, task.Errorf(task.CodeInvalid, `"payload" is %s; it has to be an object, such as {"command": "python train.py"}`, kindOf(v))
	}
	return payload.Parse(v)
}

func kindOf(v json.RawMessage) string {
	switch v[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a text"
	case 't', 'f':
		return "true or false"
	default:
		return "a number"
	}
}

// meant are keys that others use, and what they are called here.
var meant = map[string]string{"task_id": "id", "task_class": "class", "task_priority": "priority"}

// programKeys say what to run, inside the payload.
var programKeys = []string{"action", "command", "execution", "image", "task_type", "type"}

// strangers returns the keys of a submission that are not ours. Clients send more
// than we know of, so most are ignored; but not one that its sender must have
// meant to count, so that no task is accepted as something else than was asked for.
func strangers(members map[string]json.RawMessage, fields payload.Fields) (ignored []string, err error) {
	known := 0
	for _, key := range slices.Sorted(maps.Keys(members)) {
		if slices.Contains(submissionKeys, key) {
			known++
			continue
		}
		if word := misspelt(key); word != "" && members[word] == nil {
			return nil, task.Errorf(task.CodeInvalid, "there is no key %q; did you mean %q?", shortened(key), word)
		}
		if slices.Contains(programKeys, key) && !fields.NamesProgram() {
			return nil, task.Errorf(task.CodeInvalid, `%q is not read there; put it into "payload"`, key)
		}
		ignored = append(ignored, text(key))
	}
	if known == 0 && len(ignored) > 0 {
		return nil, task.Errorf(task.CodeInvalid, `the body has none of the keys %s; if all of it is the payload, send {"payload": ...}`, strings.Join(submissionKeys, ", "))
	}
	return ignored, nil
}

// misspelt returns the key that somebody meant; "" = none.
func misspelt(key string) string {
	if word := meant[key]; word != "" {
		return word
	}
	for _, word := range submissionKeys {
		if strings.EqualFold(key, word) {
			return word
		}
	}
	if len(key) < 4 {
		return "" // everything short is like "id"
	}
	return spelling.Nearest(strings.ToLower(key), submissionKeys[1:], 2)
}
