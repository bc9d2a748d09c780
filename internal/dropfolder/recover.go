package dropfolder

import (
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sys/unix"
)

// recover reads taken/: what an earlier Run, or one that was killed, has left
// there. Entries that are known already stay as they are. It is done once in a while,
// more often on a file system that several hosts see: an owner that was frozen, and
// followed by us, may have taken one more file before it noticed.
func (f *Folder) recover(now time.Time) error {
	f.recovered = now
	there := map[string]bool{}
	var names []string
	err := f.layout.taken.each(func(file string) bool {
		ticket, _, ok := splitTaken(file)
		switch {
		case ok:
			there[ticket] = true
			names = append(names, file)
		case strings.HasSuffix(file, nameSuffix), strings.HasPrefix(file, "."):
			names = append(names, file)
		case !f.toldStray:
			f.toldStray = true
			f.opts.Logger.Warn("a file that is none of ours lies where taken files are; it is left alone", "file", file)
		}
		return true
	})
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, file := range names {
		if err := f.recoverFile(file, there, now); err != nil {
			return err
		}
	}
	for ticket, e := range f.taken.all {
		if !there[ticket] {
			f.drop(e)
		}
	}
	slices.SortFunc(f.taken.unsettled, oldestTicket)
	return nil
}

func (f *Folder) recoverFile(file string, there map[string]bool, now time.Time) error {
	ticket, base, ok := splitTaken(file)
	switch {
	case !ok:
		return f.tidy(file, there)
	case f.taken.all[ticket] != nil:
		return nil
	}
	if base == "" {
		var err error
		if base, err = f.storedName(ticket); err != nil {
			return err
		}
	}
	if id, err := ulid.ParseStrict(ticket); err == nil {
		f.newest = max(f.newest, id.Time())
	}
	e := &entry{ticket: ticket, base: base, file: file}
	st, err := f.layout.taken.stat(file)
	if err != nil {
		return err
	}
	e.look.observe(&st, now, f.opts.MaxFileBytes)
	f.taken.add(e)
	f.taken.unsettled = append(f.taken.unsettled, e)
	return nil
}

// nextTicket makes a ticket that comes after all that lie in taken/, also where the
// clock of whoever made those was ahead of ours.
func (f *Folder) nextTicket(now time.Time) (string, error) {
	if ms := ulid.Timestamp(now); ms <= f.newest {
		now = ulid.Time(f.newest + 1)
	}
	return f.tickets.Next(now)
}

// tidy removes what only helped a file that is gone: a name of ours, or what was
// being written.
func (f *Folder) tidy(file string, there map[string]bool) error {
	ticket, isName := strings.CutSuffix(file, nameSuffix)
	if !isName {
		ticket, _ = strings.CutSuffix(strings.TrimPrefix(file, "."), tempSuffix)
		there = nil
	}
	if !isTicket(ticket) || there[ticket] {
		return nil
	}
	return f.layout.taken.remove(file)
}

// storeName writes down a name that has no room behind its ticket.
func (f *Folder) storeName(ticket, base string) error {
	if err := f.layout.taken.write(ticket, ticket+nameSuffix, []byte(base)); err != nil {
		return err
	}
	return f.layout.taken.sync()
}

// storedName reads it. Where it cannot be told the ticket has to do.
func (f *Folder) storedName(ticket string) (string, error) {
	file, err := f.layout.taken.open(ticket + nameSuffix)
	if errors.Is(err, unix.ENOENT) {
		return ticket, nil
	}
	if err != nil {
		return "", err
	}
	defer file.Close()
	name, err := io.ReadAll(io.LimitReader(file, int64(f.layout.nameMax)))
	if err != nil {
		return "", err
	}
	if len(name) == 0 || strings.ContainsAny(string(name), "/\x00") {
		return ticket, nil
	}
	return string(name), nil
}

// drop forgets an entry whose file somebody has removed.
func (f *Folder) drop(e *entry) {
	f.opts.Logger.Warn("a taken file has disappeared; there will be no outcome for it", "file", e.file, "task", e.id)
	f.taken.remove(e)
	isIt := func(o *entry) bool { return o == e }
	f.taken.unsettled = slices.DeleteFunc(f.taken.unsettled, isIt)
	f.taken.ended = slices.DeleteFunc(f.taken.ended, isIt)
}
