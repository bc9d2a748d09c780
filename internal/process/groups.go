package process

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Programs that fork faster than the table of processes can be read are in it
// only in part, or not at all: each has a child and is gone. A signal to their
// process group reaches all at the same instant, children that are just being
// forked included.

// hidden says that something of the attempt may be alive that the table of
// processes did not show.
func (a *attempt) hidden(table map[int]process) bool {
	p := &a.proc
	if p.cgroup != nil {
		return p.cgroup.populated()
	}
	return !a.ending.groupKilled && p.ownsNumber(table) && !errors.Is(unix.Kill(-p.pid, 0), unix.ESRCH)
}

// killGroups ends by force the process groups that are wholly the attempt's, and
// says whether there were any. The signals to single processes still go out, for
// those in other groups.
func (a *attempt) killGroups(left []process) (sent bool) {
	p := &a.proc
	groups := map[int]bool{}
	pids := map[int]bool{}
	for _, q := range left {
		pids[q.pid] = true
	}
	main := map[int]process{} // as it is now: the table may be a moment old
	if q, there := lookup(p.pid); there {
		main[p.pid] = q
	}
	ours := p.ownsNumber(main)
	for _, q := range left {
		// Whoever is in a session descends from the one that began it.
		if ours && q.session == p.pid || pids[q.session] || pids[q.group] {
			groups[q.group] = true
		}
	}
	if ours {
		groups[p.pid] = true
		a.ending.groupKilled = true
	}
	for g := range groups {
		if g > 1 {
			sent = unix.Kill(-g, unix.SIGKILL) == nil || sent
		}
	}
	return sent
}
