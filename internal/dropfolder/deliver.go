package dropfolder

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/failpoint"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// readLog notes which of our tasks have ended.
func (f *Folder) readLog() {
	for {
		records, err := f.opts.Log.Records(f.cursor+1, maxRecords)
		if f.trouble.note("log", "the event log cannot be read; outcomes are late", err) || len(records) == 0 {
			return
		}
		now := f.opts.Now()
		if records[0].Index > f.cursor+1 { // retention was faster: it is not known who has ended
			for _, list := range f.taken.byID {
				f.endAll(list, now)
			}
		}
		for _, r := range records {
			if r.Ended() {
				f.endAll(f.taken.byID[r.ID], now)
			}
		}
		f.cursor = records[len(records)-1].Index
	}
}

func (f *Folder) endAll(list []*entry, now time.Time) {
	for _, e := range list {
		f.taken.end(e, now)
	}
}

// outcome is a record that was written, and has no name yet.
type outcome struct {
	e    *entry
	temp *os.File
}

// deliver writes outcomes, as many as go together, and removes the files that they
// are of. An outcome is on disk before its file is removed.
func (f *Folder) deliver(now time.Time) {
	due := f.taken.takeEnded(now, maxBatch)
	list := f.stageOutcomes(due, now)
	temps := make([]*os.File, len(list))
	for i, o := range list {
		temps[i] = o.temp
	}
	var written []*entry
	for i, err := range syncFiles(temps) {
		if f.publish(list[i], now, err) {
			written = append(written, list[i].e)
		}
	}
	f.finish(now, written)
}

func (f *Folder) stageOutcomes(due []*entry, now time.Time) (list []outcome) {
	for i, e := range due {
		temp, err := f.stageOutcome(e, now)
		if f.notDelivered(e, now, err) {
			for _, o := range due[i+1:] { // it would be the same with them
				f.taken.end(o, now.Add(retryFirst))
			}
			break
		}
		if temp != nil {
			list = append(list, outcome{e, temp})
		}
	}
	return list
}

// notDelivered sees to it that an outcome is written later, and says whether the
// error is about all of them.
func (f *Folder) notDelivered(e *entry, now time.Time, err error) (all bool) {
	const message = "outcomes cannot be written to the drop folder; they are tried again"
	if full(err) {
		f.trouble.note("done", message, err)
		f.taken.end(e, now.Add(retryFirst))
		return true
	}
	if f.trouble.note("done/"+e.base, message, err) {
		f.taken.end(e, now.Add(retryLast))
	}
	return false
}

// stageOutcome writes the record of an entry, if its task has ended.
func (f *Folder) stageOutcome(e *entry, now time.Time) (*os.File, error) {
	o, err := f.opts.Tasks.Outcome(e.id)
	if err != nil && task.CodeOf(err) == task.CodeNotFound {
		o, err = Outcome{State: task.Lost, EndedAt: now, Error: "the queue does not know the task any more"}, nil
	}
	if err != nil || !o.State.Terminal() {
		return nil, err // it goes on; the log tells when it ends
	}
	record, err := f.record(e, o)
	if err != nil {
		return nil, err
	}
	failpoint.Here("dropfolder/before-done")
	return f.layout.done.stage(e.ticket, record)
}

// publish gives a record its name, in the order of the tickets.
func (f *Folder) publish(o outcome, now time.Time, err error) bool {
	if err == nil {
		err = f.supersede(o.e)
	}
	err = f.layout.done.publish(o.temp, o.e.ticket, o.e.base+suffix, err)
	if f.notDelivered(o.e, now, err) || err != nil {
		return false
	}
	f.trouble.note("done", "", nil)
	o.e.written = true
	failpoint.Here("dropfolder/after-done")
	return true
}

// supersede gives earlier files of the same name a name of their own: what is in
// done/ under the name is the outcome of the latest from now on. Those whose outcome
// was written just before, and are about to be removed, keep the name: should they
// come back, this one does too, and is written after them once more.
func (f *Folder) supersede(e *entry) error {
	earlier := f.taken.earlier(e)
	moved := false
	for _, o := range earlier {
		if o.written {
			continue
		}
		base := ticketed(o.base, o.ticket, f.layout.nameMax-len(suffix))
		file, fits := takenName(o.ticket, base, f.layout.nameMax)
		if !fits {
			if err := f.storeName(o.ticket, base); err != nil {
				return err
			}
		}
		if err := f.layout.taken.move(o.file, f.layout.taken, file); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
		f.taken.rename(o, base, file)
		moved = true
	}
	if !moved {
		return nil
	}
	failpoint.Here("dropfolder/after-supersede")
	return f.layout.taken.sync()
}

// finish removes the files whose outcomes were written.
func (f *Folder) finish(now time.Time, written []*entry) {
	if len(written) == 0 {
		return
	}
	if f.trouble.note("done_sync", "outcomes in the drop folder are not safe on disk yet; they are written again", f.layout.done.sync()) {
		for _, e := range written {
			e.written = false
			f.taken.end(e, now.Add(retryFirst))
		}
		return
	}
	for _, e := range written {
		if err := errors.Join(f.layout.taken.remove(e.file), f.layout.taken.remove(e.ticket+nameSuffix)); err != nil {
			// The next start finds it, and writes the same outcome once more.
			f.opts.Logger.Warn("a taken file cannot be removed", "error", err)
		}
		f.taken.remove(e)
		failpoint.Here("dropfolder/after-remove")
	}
	// A file that came back after a power failure would have its outcome written once
	// more, over that of a later file of the name.
	f.trouble.note("remove_sync", "files that were removed may come back after a power failure", f.layout.taken.sync())
}

// record makes what is written to done/.
func (f *Folder) record(e *entry, o Outcome) ([]byte, error) {
	members, err := f.ownKeys(e)
	if err != nil {
		return nil, err
	}
	var result any
	if len(o.Result) > 0 {
		result = o.Result
	}
	ours := map[string]any{
		"status": o.State.Wire(), "result": result, "error": o.Error,
		"completed_at": o.EndedAt.UTC().Format("2006-01-02T15:04:05.000Z07:00"),
		"duration_ms":  float64(o.Duration.Round(time.Microsecond)) / float64(time.Millisecond),
	}
	if o.SlurmJob != "" {
		ours["slurm_job"] = o.SlurmJob
	}
	if id := members["id"]; id == nil || string(id) == "null" {
		ours["id"] = e.id
	}
	for key, value := range ours {
		if members[key], err = marshal(value); err != nil {
			return nil, err
		}
	}
	return marshal(members)
}

// marshal writes JSON as it was given.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return b.Bytes(), err
}

// ownKeys reads what the file said. Of a file that somebody has spoilt since nothing
// is left.
func (f *Folder) ownKeys(e *entry) (map[string]json.RawMessage, error) {
	members := map[string]json.RawMessage{}
	file, err := f.layout.taken.open(e.file)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ELOOP), errors.Is(err, unix.EACCES), errors.Is(err, unix.ENXIO):
		return members, nil
	case err != nil:
		return nil, err
	}
	defer file.Close()
	content, err := readAll(io.Reader(file), e.look.id.size, f.opts.MaxFileBytes)
	if errors.Is(err, unix.EISDIR) {
		return members, nil
	}
	if err != nil {
		return nil, err
	}
	if json.Unmarshal(content, &members) != nil || members == nil {
		return map[string]json.RawMessage{}, nil
	}
	return members, nil
}
