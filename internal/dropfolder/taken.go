package dropfolder

import (
	"cmp"
	"slices"
	"time"
)

// entry is a file in taken/.
type entry struct {
	ticket string
	base   string // its name in pending/, without the suffix
	file   string // its name in taken/
	look   look
	id     string // of the task that was submitted; "" = none yet
	// endedAt is from when on its outcome is to be written; zero = it has not ended,
	// as far as we know.
	endedAt time.Time
	before  bool // it lay there when the queue was made anew, and is not settled
	written bool // its outcome is in done/, but maybe not on disk
}

// taken is what lies in taken/.
type taken struct {
	all    map[string]*entry   // by ticket
	byID   map[string][]*entry // those that were submitted
	byBase map[string][]*entry
	// unsettled were not submitted yet, oldest first.
	unsettled []*entry
	// ended have an outcome to be written.
	ended []*entry
}

func newTaken() taken {
	return taken{all: map[string]*entry{}, byID: map[string][]*entry{}, byBase: map[string][]*entry{}}
}

func (t *taken) add(e *entry) {
	t.all[e.ticket] = e
	t.byBase[e.base] = append(t.byBase[e.base], e)
}

func (t *taken) remove(e *entry) {
	delete(t.all, e.ticket)
	without(t.byBase, e.base, e)
	if e.id != "" {
		without(t.byID, e.id, e)
	}
}

func without(m map[string][]*entry, key string, e *entry) {
	if left := slices.DeleteFunc(m[key], func(o *entry) bool { return o == e }); len(left) > 0 {
		m[key] = left
	} else {
		delete(m, key)
	}
}

// rename gives an entry another name.
func (t *taken) rename(e *entry, base, file string) {
	without(t.byBase, e.base, e)
	e.base, e.file = base, file
	t.byBase[base] = append(t.byBase[base], e)
}

// follow notes that the task of an entry is in the queue.
func (t *taken) follow(e *entry, id string) {
	e.id = id
	t.byID[id] = append(t.byID[id], e)
}

// end notes that there may be an outcome.
func (t *taken) end(e *entry, now time.Time) {
	if e.endedAt.IsZero() {
		e.endedAt = now
		t.ended = append(t.ended, e)
	}
}

// takeEnded takes those out whose outcome is due, oldest first.
func (t *taken) takeEnded(now time.Time, most int) (due []*entry) {
	slices.SortFunc(t.ended, oldestTicket)
	var left []*entry
	for _, e := range t.ended {
		if now.Before(e.endedAt) || len(due) == most {
			left = append(left, e)
			continue
		}
		e.endedAt = time.Time{}
		due = append(due, e)
	}
	t.ended = left
	return due
}

// earlier returns the files of the same name that were taken before.
func (t *taken) earlier(e *entry) []*entry {
	var out []*entry
	for _, o := range t.byBase[e.base] {
		if o.ticket < e.ticket {
			out = append(out, o)
		}
	}
	return out
}

// failed says whether something waits to be tried again.
func (t *taken) failed() bool { return len(t.ended) > 0 || len(t.unsettled) > 0 }

// settleDue says whether something can be done about an unsettled entry.
func (t *taken) settleDue(now time.Time, opts *Options) bool {
	return slices.ContainsFunc(t.unsettled, func(e *entry) bool { return e.look.due(now, opts) })
}

// endDue says whether an outcome can be written.
func (t *taken) endDue(now time.Time) bool {
	return slices.ContainsFunc(t.ended, func(e *entry) bool { return !now.Before(e.endedAt) })
}

// settles says whether an entry waits for its second look.
func (t *taken) settles(now time.Time, settle time.Duration) bool {
	return slices.ContainsFunc(t.unsettled, func(e *entry) bool { return now.Sub(e.look.since) < settle })
}

func oldestTicket(a, b *entry) int { return cmp.Compare(a.ticket, b.ticket) }
