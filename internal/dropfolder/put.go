package dropfolder

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/envelope"
	"github.com/dspy-agent/dspy-agent/internal/failpoint"
	"github.com/dspy-agent/dspy-agent/internal/taskid"
)

// File is a task as it is put into a drop folder.
type File struct {
	ID       string          `json:"id,omitempty"` // "" = Put makes one
	Class    string          `json:"class,omitempty"`
	Priority int32           `json:"priority,omitempty"`
	Payload  json.RawMessage `json:"payload,omitempty"` // a JSON object
}

// Put puts a task into the drop folder of another process, which may be on another
// host, and returns the id that the task will have. The file is on disk then; when it
// is taken is for its reader to say.
func Put(root string, file File) (id string, err error) {
	ticket, err := newTicket()
	if err != nil {
		return "", err
	}
	if file.ID == "" {
		file.ID = ticket
	}
	content, err := marshal(file)
	if err != nil {
		return "", fmt.Errorf("write task as JSON: %w", err)
	}
	if _, err := envelope.File.Read(content); err != nil {
		return "", err // better now than in rejected/
	}
	return file.ID, putInto(root, ticket, content, func(l *layout) *dir { return l.pending })
}

// PutCancel asks the owner of a drop folder to cancel a task.
func PutCancel(root, id, by, reason string) error {
	ticket, err := newTicket()
	if err != nil {
		return err
	}
	content, err := marshal(request{Cancel: id, By: by, Reason: reason})
	if err != nil {
		return fmt.Errorf("write request as JSON: %w", err)
	}
	if _, err := readRequest(content); err != nil {
		return err
	}
	return putInto(root, ticket, content, func(l *layout) *dir { return l.requests })
}

// PutOrder asks the owner of a drop folder to accept a task, in the form that its
// Tasks.Order reads: a JSON value that carries the task's id, so that it can be sent
// twice.
func PutOrder(root string, order json.RawMessage) error {
	ticket, err := newTicket()
	if err != nil {
		return err
	}
	content, err := marshal(request{Order: order})
	if err != nil {
		return fmt.Errorf("write request as JSON: %w", err)
	}
	return putInto(root, ticket, content, func(l *layout) *dir { return l.requests })
}

func newTicket() (string, error) {
	var m taskid.Maker
	return m.Next(time.Now())
}

func putInto(root, ticket string, content []byte, where func(*layout) *dir) error {
	l, err := openLayout(root)
	if err != nil {
		return err
	}
	defer l.close()
	d := where(l)
	if err := d.put(ticket, content); err != nil {
		return fmt.Errorf("put a file into the drop folder: %w", err)
	}
	return nil
}

// put makes a file that is whole under its name, and on disk with it.
func (d *dir) put(ticket string, content []byte) error {
	failpoint.Here("dropfolder/before-put")
	if err := d.write(ticket, ticket+suffix, content); err != nil {
		return err
	}
	failpoint.Here("dropfolder/after-put")
	return d.sync()
}
