package payload

import "github.com/dspy-agent/dspy-agent/internal/task"

// maxOutputs is how many outputs a task may announce.
const maxOutputs = 1000

// artifacts checks the list of what the program will leave behind. It stays in
// the payload: the program and its callers agree on it, and we only see that it
// is what they will be able to read.
func (o *object) artifacts() {
	a := o.inner("artifacts")
	for _, out := range a.objects("outputs", "a list of objects with path, type and name", maxOutputs) {
		if out.text("path") == "" {
			out.fail("path", "is missing", "say which file or folder the program writes")
		}
		out.label("type", task.MaxNameBytes)
		out.label("name", task.MaxNameBytes)
	}
}
