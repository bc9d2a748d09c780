package gpupool

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/gpu"
	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Of each device there is a lock file, which the schedulers of all users lock (flock)
// for as long as a lease of theirs holds the device; and beside it a note of each
// scheduler that has it, in a file of its own. The lock ends with the daemon; the note
// tells others that the device is still held when a daemon was killed and its task was
// not, and tells the next daemon of the same queue what it has to see to.

// claim is a device that we have locked.
type claim struct {
	file *os.File
	note []keeper // as it was written
	// pending: the lease that it is for is not known to be committed yet.
	pending bool
}

// other is a device that another scheduler has.
type other struct {
	because string
	since   time.Time
}

// record is a note beside a lock.
type record struct {
	UID   int       `json:"uid"`
	Queue string    `json:"queue"`
	Held  []keeper  `json:"held"` // by several, if they share it
	At    time.Time `json:"at"`
}

// keeper is a task that has a device, and the process that shows that it still has.
type keeper struct {
	Task  string `json:"task"`
	PID   int    `json:"pid"`
	Start uint64 `json:"start_ticks"`
	Boot  string `json:"boot"`
}

func (k keeper) process() host.Process { return host.Process{PID: k.PID, Start: k.Start, Boot: k.Boot} }

// holds returns the first of those who still have it; "" = none has.
func (r record) holds() string {
	for _, k := range r.Held {
		if k.process().Runs() {
			return k.Task
		}
	}
	return ""
}

func (p *Pool) lockPath(id gpu.DeviceID) string {
	return filepath.Join(p.o.LockDir, fileName(id)+".lock")
}

func (p *Pool) notePath(id gpu.DeviceID) string {
	return filepath.Join(p.o.LockDir, fmt.Sprintf("%s.uid%d-%s", fileName(id), p.o.UID, p.o.QueueID))
}

// fileName is a device's UUID as a name of a file.
func fileName(id gpu.DeviceID) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, string(id))
}

// Claim locks devices for a task, before its lease is committed. why says who has one
// of them; then none is locked by this call.
func (p *Pool) Claim(holder string, devices []string) (why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.o.MakeLockDir != nil {
		if err := p.o.MakeLockDir(p.o.LockDir); err != nil {
			return p.unclaim(nil, gpu.DeviceID(devices[0]), other{because: err.Error(), since: p.o.Now()})
		}
	}
	var fresh []gpu.DeviceID
	for _, d := range devices {
		id := gpu.DeviceID(d)
		if c := p.claims[id]; c != nil {
			c.pending = true
			if err := p.writeNote(id, c, append(slices.Clip(c.note), p.keeper(holder))); err != nil {
				return p.unclaim(fresh, id, other{because: err.Error(), since: p.o.Now()})
			}
			continue
		}
		c, had, err := p.lock(id)
		if err == nil && had == nil {
			if err = p.writeNote(id, c, []keeper{p.keeper(holder)}); err != nil {
				err = errors.Join(err, c.file.Close())
			}
		}
		if err != nil {
			had = &other{because: err.Error(), since: p.o.Now()}
		}
		if had != nil {
			return p.unclaim(fresh, id, *had)
		}
		p.claims[id] = c
		fresh = append(fresh, id)
	}
	return ""
}

// unclaim gives back what a claim has locked that cannot have all.
func (p *Pool) unclaim(fresh []gpu.DeviceID, id gpu.DeviceID, had other) string {
	for _, f := range fresh {
		p.unlock(f)
	}
	p.others[id] = had
	return fmt.Sprintf("%s: %s", id, had.because)
}

// lock takes the lock of a device. had is who has it.
func (p *Pool) lock(id gpu.DeviceID) (c *claim, had *other, err error) {
	f, err := openLock(p.lockPath(id))
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if c == nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if err := host.LockOpen(f); errors.Is(err, host.ErrLocked) {
		if o, ok := p.otherNotes()[id]; ok {
			return nil, &o, nil
		}
		return nil, &other{because: "another scheduler of this machine has it", since: p.o.Now()}, nil
	} else if err != nil {
		return nil, nil, err
	}
	if o, ok := p.otherNotes()[id]; ok {
		return nil, &o, nil // its daemon is gone, and its task is not
	}
	return &claim{file: f, pending: true}, nil, nil
}

// openLock opens a lock file that may be another user's: to lock it, reading is enough.
func openLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = os.OpenFile(path, os.O_RDONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o644)
		switch {
		case errors.Is(err, fs.ErrExist): // another one has made it meanwhile
			f, err = os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
		case err == nil:
			err = f.Chmod(0o644) // whatever our umask is: others must be able to lock it
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open the lock of a GPU: %w", err)
	}
	return f, nil
}

// keeper is what a note says of a task whose own process is not known: who starts it.
func (p *Pool) keeper(holder string) keeper {
	var starter host.Process
	if p.o.Starter != nil {
		starter = p.o.Starter()
	}
	return keeper{Task: holder, PID: starter.PID, Start: starter.Start, Boot: starter.Boot}
}

// own is the same with the task's own process; PID is 0 while that is not known.
func (p *Pool) own(t task.Task) keeper {
	if p.o.Process == nil {
		return keeper{}
	}
	proc := p.o.Process(t)
	return keeper{Task: t.Spec.ID, PID: proc.PID, Start: proc.Start, Boot: proc.Boot}
}

// writeNote says who has a device.
func (p *Pool) writeNote(id gpu.DeviceID, c *claim, held []keeper) error {
	b, err := json.Marshal(record{UID: p.o.UID, Queue: p.o.QueueID, Held: held, At: p.o.Now()})
	if err != nil {
		return err
	}
	path := p.notePath(id)
	if err := os.WriteFile(path+".new", b, 0o644); err != nil { //nolint:gosec // others are to read it
		return fmt.Errorf("note who has a GPU: %w", err)
	}
	if err := os.Chmod(path+".new", 0o644); err != nil { //nolint:gosec // the same
		return fmt.Errorf("note who has a GPU: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("note who has a GPU: %w", err)
	}
	c.note = held
	return nil
}

// otherNotes are the notes of others that still hold, by device.
func (p *Pool) otherNotes() map[gpu.DeviceID]other {
	out := map[gpu.DeviceID]other{}
	p.eachNote(func(id gpu.DeviceID, r record, ours bool) {
		if who := r.holds(); !ours && who != "" {
			out[id] = other{because: fmt.Sprintf("the scheduler of uid %d has it for task %s", r.UID, who), since: r.At}
		}
	})
	return out
}

// eachNote reads all notes.
func (p *Pool) eachNote(visit func(id gpu.DeviceID, r record, ours bool)) {
	entries, err := os.ReadDir(p.o.LockDir)
	if err != nil {
		return // nobody has left one
	}
	for _, e := range entries {
		name, who, ok := strings.Cut(e.Name(), ".uid")
		uid, queue, named := strings.Cut(who, "-")
		n, err := strconv.Atoi(uid)
		if !ok || !named || err != nil || strings.HasSuffix(queue, ".new") {
			continue
		}
		r, ok := readNote(filepath.Join(p.o.LockDir, e.Name()), n)
		if ok {
			visit(gpu.DeviceID(name), r, n == p.o.UID && queue == p.o.QueueID)
		}
	}
}

// mostNote bounds a note: a few tasks, with ids of 200 bytes.
const mostNote = 64 << 10

// readNote reads a note, if it is that user's: its name says whose it is, and its owner
// must be the same.
func readNote(path string, uid int) (r record, ok bool) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return r, false
	}
	defer f.Close()
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil || int(st.Uid) != uid || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > mostNote {
		return r, false
	}
	b := make([]byte, st.Size)
	n, _ := f.Read(b) // what is not whole is not JSON
	if json.Unmarshal(b[:n], &r) != nil {
		return r, false
	}
	r.UID = uid
	for i := range r.Held {
		r.Held[i].Task = printable(r.Held[i].Task)
	}
	return r, true
}

func printable(s string) string {
	if len(s) > task.MaxIDBytes || !task.Printable(s) {
		return "?"
	}
	return s
}

// lookAtLocks returns which devices others have, as far as notes tell.
func (p *Pool) lookAtLocks() map[gpu.DeviceID]other { return p.otherNotes() }

// recall reads our own notes after a start: what they name was held, and cools unless
// a lease still has it.
func (p *Pool) recall() {
	p.eachNote(func(id gpu.DeviceID, r record, ours bool) {
		if !ours {
			return
		}
		for _, k := range r.Held {
			p.book = p.book.Had(id, k.Task)
		}
		if c, had, err := p.lock(id); err == nil && had == nil { // pending, until the engine has told who holds what
			c.note = r.Held
			p.claims[id] = c
		}
	})
}

// settle is for after a commit: what was claimed for it is held now, or not. The notes
// name the processes of those who hold something, once they have one.
func (p *Pool) settle() {
	for _, c := range p.claims {
		c.pending = false
	}
	p.writeNotes()
}

// writeNotes brings the notes up to date: the process of a container is known some time
// after it was started.
func (p *Pool) writeNotes() {
	for id, c := range p.claims {
		if c.pending {
			continue
		}
		var held []keeper
		for i, l := range p.leases {
			if slices.Contains(l.Devices, id) {
				held = append(held, p.kept(c, p.tasks[i]))
			}
		}
		slices.SortFunc(held, func(a, b keeper) int { return strings.Compare(a.Task, b.Task) })
		if len(held) == 0 || slices.Equal(held, c.note) {
			continue
		}
		if err := p.writeNote(id, c, held); err != nil {
			p.o.Log.Warn("a note of who has a GPU cannot be written", "gpu", id, "error", err)
		}
	}
}

// kept is what is to be said of a task: its own process, where that is known; else what
// the note says already, while that runs; else whoever starts it.
func (p *Pool) kept(c *claim, t task.Task) keeper {
	if own := p.own(t); own.PID != 0 {
		return own
	}
	for _, k := range c.note {
		if k.Task == t.Spec.ID && k.process().Runs() {
			return k
		}
	}
	return p.keeper(t.Spec.ID)
}

// release unlocks what no lease has and whose memory is free.
func (p *Pool) release() {
	for id, c := range p.claims {
		held := false
		for _, l := range p.leases {
			for _, d := range l.Devices {
				held = held || d == id
			}
		}
		if !held && !c.pending && p.book.Devices[id].Cooling == nil {
			p.unlock(id)
		}
	}
}

func (p *Pool) unlock(id gpu.DeviceID) {
	c := p.claims[id]
	delete(p.claims, id)
	err := os.Remove(p.notePath(id)) // first: while the note is there, the lock is
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err := errors.Join(err, c.file.Close()); err != nil {
		p.o.Log.Warn("the lock of a GPU cannot be given back", "gpu", id, "error", err)
	}
}

// close lets go of the locks; the notes of what is held stay.
func (p *Pool) close() {
	p.save(true)
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, c := range p.claims {
		delete(p.claims, id)
		_ = c.file.Close() // nothing was written to it
	}
}

// withOthers marks what other schedulers have.
func withOthers(verdicts []gpu.Verdict, others map[gpu.DeviceID]other) []gpu.Verdict {
	for i := range verdicts {
		v := &verdicts[i]
		o, ok := others[gpu.DeviceID(fileName(v.ID))]
		if ok && (v.State == gpu.Free || v.State == gpu.CoolingOff) {
			v.State, v.Because, v.Since, v.Occupants, v.Room = gpu.Foreign, "by another scheduler ("+o.because+")", o.since, nil, 0
		}
	}
	return verdicts
}
