package dropfolder

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/envelope"
	"github.com/dspy-agent/dspy-agent/internal/failpoint"
)

// The places between the steps where a crash test dies.
var _ = failpoint.Declare(
	"dropfolder/after-name", "dropfolder/after-take", "dropfolder/before-submit", "dropfolder/after-submit",
	"dropfolder/after-error", "dropfolder/after-reject",
	"dropfolder/before-done", "dropfolder/after-supersede", "dropfolder/after-done", "dropfolder/after-remove",
	"dropfolder/after-cancel", "dropfolder/before-put", "dropfolder/after-put",
)

// batch is what is submitted in one commit.
type batch struct {
	entries []*entry
	subs    []Submission
	bytes   int
}

func (b *batch) full() bool { return len(b.subs) >= maxBatch || b.bytes >= maxBatchBytes }

// candidate is a file in pending/ that is about to be taken.
type candidate struct {
	name    string
	look    *look
	file    *os.File // open; nil = it was not read, for it is to be set aside
	content []byte
}

// takeBatch takes files that are due, as many as fit.
func (f *Folder) takeBatch(now time.Time, b *batch) {
	if f.closed(now) || f.refusing && len(b.subs) > 0 {
		return // while the queue takes nothing, nothing is added to what waits for it
	}
	list, err := f.readReady(now, maxBatch-len(b.subs), maxBatchBytes-b.bytes)
	files := make([]*os.File, len(list))
	for i, c := range list {
		files[i] = c.file
	}
	// They may never have been on disk, and what is in taken/ has to be.
	for i, syncErr := range syncFiles(files) {
		if err == nil {
			err = f.fault(list[i].name, list[i].look, now, syncErr)
		}
		if err == nil && syncErr == nil {
			err = f.takeFile(list[i], now, b)
		}
		if files[i] != nil {
			_ = files[i].Close() // it was only read
		}
	}
	if f.trouble.note("take", "files of the drop folder cannot be taken", err) {
		f.ready = nil // the next scan finds them again
		f.hold(now)
	}
}

// readReady reads files that are due, up to so many, and leaves out those that turn
// out not to be ready. The error is about the folder; what was read before it is
// returned.
func (f *Folder) readReady(now time.Time, most, mostBytes int) (list []candidate, err error) {
	bytes, seen := 0, 0
	for len(f.ready) > 0 && seen < most && bytes < mostBytes {
		c := candidate{name: f.ready[0], look: f.pending.looks[f.ready[0]]}
		f.ready = f.ready[1:]
		seen++
		if c.look.problem == "" {
			c.file, c.content, err = f.read(f.layout.pending, c.name, c.look)
			if err = f.fault(c.name, c.look, now, err); err != nil {
				return list, err
			}
			if c.file == nil && !f.hopeless(c.look, now) {
				continue
			}
		}
		bytes += len(c.content)
		list = append(list, c)
	}
	return list, nil
}

// hopeless says of a file that was just found not to be whole whether nobody can be writing
// it any more: whoever comes from cron does not come back to it in the same run. Where that
// takes the clock of the file system, which is looked at with the next scan, that is soon.
func (f *Folder) hopeless(l *look, now time.Time) bool {
	if l.problem == "" {
		return false // it has changed, or is gone
	}
	if !f.opts.clock.known {
		f.settling, f.scanAt = true, now.Add(f.opts.settle())
	}
	return l.givenUp(now, &f.opts)
}

// fault returns an error that is about the folder. One about a single file is logged,
// and only that file waits.
func (f *Folder) fault(name string, l *look, now time.Time, err error) error {
	if err == nil || full(err) {
		return err
	}
	if f.trouble.note("file/"+name, "a file of the drop folder cannot be dealt with; it is tried again", err) {
		l.retryAt = now.Add(retryLast)
	}
	return nil
}

// takeFile moves a file into taken/, and goes on with what is there then: with the
// content, where it is the file that was read. Any other is looked at from the
// beginning, where it is now. The error is about the folder, not about the file.
func (f *Folder) takeFile(c candidate, now time.Time, b *batch) error {
	e, err := f.move(c.name, now)
	if e == nil {
		return f.fault(c.name, c.look, now, err)
	}
	f.trouble.note("file/"+c.name, "", nil)
	f.dirty = true
	failpoint.Here("dropfolder/after-take")
	st, err := f.layout.taken.stat(e.file)
	if err != nil {
		f.unsettle(e, now)
		return nil // the next look says what has become of it
	}
	e.look.observe(&st, now, f.opts.MaxFileBytes)
	before := c.look
	switch {
	case c.file != nil && unchanged(c.file, &st, before.id):
		f.judge(e, now, c.content, b)
		return nil
	case c.file == nil && identOf(&st).sameContent(before.id):
		e.look.since, e.look.problem, e.look.over = before.since, before.problem, true // it has waited already
	}
	f.unsettle(e, now)
	return nil
}

// unchanged says whether a file that was read before it was taken is what has been
// taken, with the content that was read.
func unchanged(file *os.File, taken *unix.Stat_t, before ident) bool {
	var st unix.Stat_t
	if again(func() error { return unix.Fstat(int(file.Fd()), &st) }) != nil {
		return false
	}
	return identOf(&st).sameContent(before) && identOf(taken).sameContent(before) && taken.Nlink == 1
}

// read reads a file whose last look was l, and leaves it open. It returns nil where
// the file is not whole or cannot be read, which the look says then, and where it
// has changed: then it has to be looked at anew.
func (f *Folder) read(d *dir, name string, l *look) (*os.File, []byte, error) {
	file, err := d.open(name)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO):
		l.forget()
		return nil, nil, nil
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		l.problem = "it cannot be read; its owner needs the right to read it"
		return nil, nil, nil
	case err != nil:
		return nil, nil, err
	}
	content, err := f.readWhole(file, l)
	if content == nil {
		_ = file.Close() // it was only read
		return nil, nil, err
	}
	return file, content, nil
}

// readWhole returns nil in the same cases.
func (f *Folder) readWhole(file *os.File, l *look) ([]byte, error) {
	if now, err := fstat(file); err != nil || now != l.id {
		l.forget()
		return nil, err
	}
	content, err := readAll(file, l.id.size, f.opts.MaxFileBytes)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file.Name(), err)
	}
	now, err := fstat(file)
	switch {
	case err != nil:
		return nil, err
	case now != l.id:
		l.forget()
		return nil, nil
	case !json.Valid(content):
		l.problem = incomplete(content)
		return nil, nil
	}
	return content, nil
}

// fstat identifies an open file.
func fstat(file *os.File) (ident, error) {
	var st unix.Stat_t
	err := again(func() error { return unix.Fstat(int(file.Fd()), &st) })
	return identOf(&st), err
}

// readAll reads a file that is said to have that size, and one byte more than is
// allowed of one that has grown since.
func readAll(file io.Reader, size, most int64) ([]byte, error) {
	var b bytes.Buffer
	b.Grow(int(min(size, most)) + bytes.MinRead)
	_, err := b.ReadFrom(io.LimitReader(file, most+1))
	return b.Bytes(), err
}

// incomplete says why a text is no JSON.
func incomplete(content []byte) string {
	_, err := envelope.File.Read(content)
	if err == nil {
		return "it is not valid JSON"
	}
	return err.Error()
}

// move renames a file into taken/. It returns nil where it is not there any more.
func (f *Folder) move(name string, now time.Time) (*entry, error) {
	ticket, err := f.nextTicket(now)
	if err != nil {
		return nil, err
	}
	base := name[:len(name)-len(suffix)]
	file, fits := takenName(ticket, base, f.layout.nameMax)
	e := &entry{ticket: ticket, base: base, file: file}
	if !fits {
		if err := f.storeName(ticket, base); err != nil {
			return nil, err
		}
		failpoint.Here("dropfolder/after-name")
	}
	err = f.layout.pending.move(name, f.layout.taken, e.file)
	if err == nil {
		f.taken.add(e)
		return e, nil
	}
	if !fits {
		err = errors.Join(err, f.layout.taken.remove(ticket+nameSuffix))
	}
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	return nil, err
}

// unsettle has an entry looked at again in taken/.
func (f *Folder) unsettle(e *entry, now time.Time) {
	if e.look.since.IsZero() {
		e.look.since = now
	}
	f.taken.unsettled = append(f.taken.unsettled, e)
}

// judge puts an entry whose content is whole into the batch, or rejects it.
func (f *Folder) judge(e *entry, now time.Time, content []byte, b *batch) {
	f.trouble.note("file/"+e.file, "", nil)
	sub, err := envelope.File.Read(content)
	if err != nil {
		f.reject(e, now, err.Error())
		return
	}
	if sub.ID == "" {
		sub.ID = e.ticket
	}
	switch unknown, err := f.unknown(e, sub.ID); {
	case err != nil:
		f.postpone(e, now, err)
		return
	case unknown:
		f.reject(e, now, whyUnknown)
		return
	}
	b.entries = append(b.entries, e)
	b.subs = append(b.subs, Submission{Submission: sub, Ticket: e.ticket})
	b.bytes += len(content)
}

// settleTaken looks at the entries that were not submitted yet.
func (f *Folder) settleTaken(now time.Time, b *batch) {
	if f.closed(now) {
		return
	}
	list := f.taken.unsettled
	f.taken.unsettled = nil
	for i, e := range list {
		if b.full() {
			f.taken.unsettled = append(f.taken.unsettled, list[i:]...)
			return
		}
		if !e.look.due(now, &f.opts) && (e.look.problem == "" || now.Before(e.look.retryAt)) {
			f.taken.unsettled = append(f.taken.unsettled, e)
			continue
		}
		f.settle(e, now, b)
	}
}

// settle looks at one of them.
func (f *Folder) settle(e *entry, now time.Time, b *batch) {
	st, err := f.layout.taken.stat(e.file)
	if errors.Is(err, unix.ENOENT) {
		f.drop(e)
		return
	}
	if err != nil {
		f.postpone(e, now, err)
		return
	}
	e.look.observe(&st, now, f.opts.MaxFileBytes)
	switch {
	case e.look.problem == "" && e.look.due(now, &f.opts):
		f.settleContent(e, now, b)
	case e.look.problem != "" && e.look.givenUp(now, &f.opts):
		f.reject(e, now, e.look.problem)
	default:
		f.again(e, now)
	}
}

// again has an entry looked at once more.
func (f *Folder) again(e *entry, now time.Time) {
	if e.look.problem != "" {
		e.look.retryAt = now.Add(pollBusy)
	}
	f.unsettle(e, now)
}

// postpone has an entry that could not be looked at wait.
func (f *Folder) postpone(e *entry, now time.Time, err error) {
	if f.fault(e.file, &e.look, now, err) != nil {
		e.look.retryAt = now.Add(retryFirst)
	}
	f.unsettle(e, now)
}

func (f *Folder) settleContent(e *entry, now time.Time, b *batch) {
	file, content, err := f.read(f.layout.taken, e.file, &e.look)
	if err == nil && file != nil {
		err = file.Sync() // it may be another than the one that was synced before it was taken
	}
	if file != nil {
		defer file.Close()
	}
	switch {
	case err != nil:
		f.postpone(e, now, err)
	case file == nil && f.hopeless(&e.look, now):
		f.reject(e, now, e.look.problem)
	case file == nil:
		f.again(e, now)
	default:
		f.judge(e, now, content, b)
	}
}
