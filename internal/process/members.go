package process

import "os"

// members are the processes that belong to an attempt, without zombies: those
// of its session and process group as long as these are known to be its own, those
// that carry its marker, and all their descendants. With a cgroup it is those in it.
func (a *attempt) members(table map[int]process, marks map[int]string) []process {
	p := &a.proc
	if p.cgroup != nil {
		var out []process
		for _, pid := range p.cgroup.pids() {
			if q, ok := lookup(pid); ok && !q.zombie() {
				out = append(out, q)
			}
		}
		return out
	}
	in := map[int]bool{}
	ours := p.ownsNumber(table)
	want := marker(a.queue.id, a.ref)
	for pid, q := range table {
		if ours && (pid == p.pid || q.session == p.pid || q.group == p.pid) || marks[pid] == want {
			in[pid] = true
		}
	}
	addDescendants(in, table)
	return pick(in, table)
}

// ownsNumber says whether the session and the process group with the number of the
// main process are the attempt's, if there are any. A pid is used again only when
// no session or group bears its number, so another process with the pid is the
// sign that they are not. That holds only while somebody looks: with no supervisor
// all of it may have ended, and the number have gone round.
func (p *proc) ownsNumber(table map[int]process) bool {
	if p.pid <= 1 || p.unmet {
		return false
	}
	q, there := table[p.pid]
	return !there || p.is(q)
}

// is says whether q is the process that was started.
func (p *proc) is(q process) bool {
	return q.pid == p.pid && q.start >= p.from && q.start <= p.to
}

// addDescendants adds all that the processes in the set started, as far as the
// chain of parents still shows it.
func addDescendants(in map[int]bool, table map[int]process) {
	for grown := true; grown; {
		grown = false
		for pid, q := range table {
			if !in[pid] && in[q.parent] {
				in[pid], grown = true, true
			}
		}
	}
}

// pick returns the living of the set; never us, nor init.
func pick(in map[int]bool, table map[int]process) []process {
	var out []process
	for pid := range in {
		if q := table[pid]; !q.zombie() && pid != os.Getpid() && pid > 1 {
			out = append(out, q)
		}
	}
	return out
}

// markers reads the marker of every process that has one.
func markers(table map[int]process) (map[int]string, error) {
	out := map[int]string{}
	for pid := range table {
		m, err := markerOf(pid)
		if exhausted(err) {
			return nil, err
		}
		if m != "" {
			out[pid] = m
		}
	}
	return out, nil
}
