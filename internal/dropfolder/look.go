package dropfolder

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ident is what tells whether a file is still the one that was looked at, with the
// same content.
type ident struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

func identOf(st *unix.Stat_t) ident {
	return ident{dev: st.Dev, ino: st.Ino, size: st.Size, mtime: st.Mtim, ctime: st.Ctim}
}

// sameContent compares what a rename leaves as it is.
func (i ident) sameContent(o ident) bool {
	o.ctime = i.ctime
	return i == o
}

// look is what is remembered about a file that waits.
type look struct {
	id      ident
	since   time.Time // since when it is like that, as far as we saw
	problem string    // why it cannot be taken as it is; "" = it has not been read
	seen    uint64    // the last scan that saw it
	retryAt time.Time // not before, after a failure; zero = at once
	read    bool      // of a request: it was read as it is now
	order   bool      // of one that was read: it orders a task, and lies there still
	over    bool      // it was given up before it was moved, which makes it look new
}

// observe compares a file with the last look at it.
func (l *look) observe(st *unix.Stat_t, now time.Time, maxBytes int64) {
	id := identOf(st)
	if l.id == id && !l.since.IsZero() {
		return
	}
	strange := strangeness(st, maxBytes)
	if strange != "" && strange == l.problem && l.id.sameContent(id) {
		l.id = id // what happens to the other names of a file changes its ctime
		return
	}
	*l = look{id: id, since: now, problem: strange, seen: l.seen}
}

// forget makes whatever is there be looked at as something new.
func (l *look) forget() { *l = look{seen: l.seen} }

// strangeness says what about a file forbids to read it; "" = nothing.
func strangeness(st *unix.Stat_t, maxBytes int64) string {
	switch kind := st.Mode & unix.S_IFMT; {
	case kind == unix.S_IFLNK:
		return "it is a symbolic link; put the file itself there"
	case kind != unix.S_IFREG:
		return "it is not a regular file; put a file there"
	case int(st.Uid) != os.Geteuid():
		return "it belongs to uid " + strconv.FormatUint(uint64(st.Uid), 10) + "; only files of the user whose queue this is are taken"
	case st.Nlink != 1:
		return "it has more than one name (hard links); copy it instead of linking it"
	case st.Size > maxBytes:
		return "it is " + strconv.FormatInt(st.Size, 10) + " bytes long; at most " + strconv.FormatInt(maxBytes, 10) +
			" are allowed: put large data into another file, and its path into the payload"
	}
	return ""
}

// givenUp says whether nobody can be writing the file any more.
func (l *look) givenUp(now time.Time, opts *Options) bool {
	return l.over || now.Sub(l.since) >= opts.Patience || opts.clock.age(l.id.ctime, now) >= opts.stale()
}

// due says whether something can be done about the file.
func (l *look) due(now time.Time, opts *Options) bool {
	switch {
	case now.Sub(l.since) < opts.settle() || now.Before(l.retryAt):
		return false
	case l.problem != "":
		return l.givenUp(now, opts)
	default:
		return true
	}
}

// scanner looks at all files of a directory that others write to.
type scanner struct {
	looks map[string]*look
	turn  uint64
}

// scanned is what one scan has found.
type scanned struct {
	due     []string // names about which something can be done, oldest first
	settles bool     // some wait only for the second look
	left    string   // a name that is none of ours; "" = there is none
	unseen  error    // why some could not be looked at; what is known of them stays
}

func (s *scanner) scan(d *dir, now time.Time, opts *Options) (scanned, error) {
	if s.looks == nil {
		s.looks = map[string]*look{}
	}
	s.turn++
	var out scanned
	err := d.each(func(name string) bool {
		if !eligible(name) {
			out.left = name
			return true
		}
		s.see(d, name, now, opts, &out)
		return true
	})
	if err != nil {
		return out, err
	}
	for name, l := range s.looks {
		if l.seen != s.turn {
			delete(s.looks, name)
		}
	}
	slices.SortFunc(out.due, s.oldestFirst)
	return out, nil
}

func (s *scanner) see(d *dir, name string, now time.Time, opts *Options, out *scanned) {
	st, err := opts.stat(d, name)
	if err != nil {
		s.lose(name, err, out)
		return
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		out.left = name
		return
	}
	l := s.looks[name]
	if l == nil {
		if len(s.looks) >= maxLooks {
			return
		}
		l = &look{}
		s.looks[name] = l
	}
	l.seen = s.turn
	l.observe(&st, now, opts.MaxFileBytes)
	switch {
	case l.due(now, opts):
		out.due = append(out.due, name)
	case now.Sub(l.since) < opts.settle():
		out.settles = true
	}
}

// lose is for a file that cannot be looked at. What a file server cannot say now is not
// taken for a file that is gone, which would be new when it is seen again.
func (s *scanner) lose(name string, err error, out *scanned) {
	if notThere(err) {
		return
	}
	out.unseen = cmp.Or(out.unseen, fmt.Errorf("look at %s: %w", name, err))
	if l := s.looks[name]; l != nil {
		l.seen = s.turn
	}
}

func (s *scanner) oldestFirst(a, b string) int {
	x, y := s.looks[a].id.mtime, s.looks[b].id.mtime
	return cmp.Or(cmp.Compare(x.Sec, y.Sec), cmp.Compare(x.Nsec, y.Nsec), strings.Compare(a, b))
}
