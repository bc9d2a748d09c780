package dropfolder

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/failpoint"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// request is a file in requests/: what a command on another host asks of the
// owner. It is a cancel or an order.
type request struct {
	Cancel string `json:"cancel,omitempty"` // the id of a task
	By     string `json:"by,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Order is a task with all that a command line can say of it, in a form that is
	// Tasks' and not the folder's.
	Order json.RawMessage `json:"order,omitempty"`
}

// carryOut does what is asked in requests/, in the order in which it was asked, as
// much as one round may. A request is removed once it is done; to do it again after a
// crash does no harm.
func (f *Folder) carryOut(ctx context.Context, now time.Time) {
	for n := 0; len(f.wanted) > 0 && n < maxBatch && ctx.Err() == nil; n++ {
		name := f.wanted[0]
		f.wanted = f.wanted[1:]
		l := f.wishes.looks[name]
		err := f.carryOutOne(ctx, now, name, l)
		if ctx.Err() == nil && f.trouble.note("requests", "requests of other hosts cannot be carried out; they are tried again", err) {
			l.retryAt = now.Add(retryFirst)
		}
		if full(err) {
			f.wanted = nil // the next scan finds them
		}
	}
}

func (f *Folder) carryOutOne(ctx context.Context, now time.Time, name string, l *look) error {
	if l.problem != "" { // for longer than anybody would take to mend it
		return f.rejectRequest(now, name, l.problem)
	}
	file, content, err := f.read(f.layout.requests, name, l)
	switch {
	case file == nil && err == nil && f.hopeless(l, now):
		return f.rejectRequest(now, name, l.problem)
	case file == nil:
		return err
	}
	defer file.Close()
	req, err := readRequest(content)
	l.read, l.order = true, req.Order != nil
	if err != nil {
		return f.rejectRequest(now, name, err.Error())
	}
	if req.Order != nil {
		return f.order(ctx, now, name, l, req.Order)
	}
	err = f.opts.Tasks.Cancel(ctx, req.Cancel, req.By, req.Reason)
	failpoint.Here("dropfolder/after-cancel")
	switch code := task.CodeOf(err); {
	case err == nil:
		f.opts.Logger.Info("a task is cancelled on request of another host", "task", req.Cancel, "by", req.By)
		return f.done(name)
	case code == task.CodeConflict:
		f.opts.Logger.Info("a task that another host asked to cancel has ended already", "task", req.Cancel, "by", req.By)
		return f.done(name)
	case code == task.CodeNotFound && (f.mayCome() || !l.givenUp(now, &f.opts)):
		l.retryAt = now.Add(pollBusy) // the task itself may still be on its way, as a file
		return nil
	case code == task.CodeNotFound, code == task.CodeInvalid, code == task.CodeUnsupported:
		return f.rejectRequest(now, name, err.Error())
	}
	return err
}

// order submits what another host has ordered.
func (f *Folder) order(ctx context.Context, now time.Time, name string, l *look, order json.RawMessage) error {
	err := f.opts.Tasks.Order(ctx, order)
	failpoint.Here("dropfolder/after-order")
	switch task.CodeOf(err) {
	case task.CodeInvalid, task.CodeConflict, task.CodeUnsupported, task.CodeNotFound:
		err = f.rejectRequest(now, name, err.Error())
	default: // it was done, or may work later
		if err == nil {
			err = f.done(name)
		}
	}
	l.order = err != nil
	return err
}

// done removes a request that was carried out. That has to be on disk: one that comes back
// with a power failure might cancel what somebody has retried since.
func (f *Folder) done(name string) error {
	err := f.layout.requests.remove(name)
	if err == nil {
		f.dirty = true
	}
	return err
}

// mayCome says whether there are files that were not submitted yet, orders among them, or
// what may be one.
func (f *Folder) mayCome() bool {
	if len(f.ready) > 0 || len(f.taken.unsettled) > 0 {
		return true
	}
	for _, l := range f.wishes.looks {
		if l.order || !l.read && l.problem == "" {
			return true
		}
	}
	return false
}

func (f *Folder) rejectRequest(now time.Time, name, reason string) error {
	base := name[:len(name)-len(suffix)]
	ticket := base
	if !isTicket(ticket) {
		var err error
		if ticket, err = f.nextTicket(now); err != nil {
			return err
		}
	}
	f.opts.Logger.Warn("a request of another host was rejected", "file", name, "reason", reason)
	return f.moveToRejected(f.layout.requests, name, base, ticket, reason)
}

func readRequest(content []byte) (req request, err error) {
	d := json.NewDecoder(bytes.NewReader(content))
	d.DisallowUnknownFields()
	if err := d.Decode(&req); err != nil {
		return req, fmt.Errorf("the request cannot be read: %w", err)
	}
	if req.Order != nil {
		return req, nil
	}
	if err := task.ValidateID(req.Cancel); err != nil {
		return req, fmt.Errorf("the request names no task: %w", err)
	}
	return req, nil
}
