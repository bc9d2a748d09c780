package process

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// foreignSpool is the spool of a supervisor that cannot be reached from here: that of
// another machine, or of another pid namespace of this one. It is read without a lock,
// while its supervisor writes it, through file servers that show what was. So nothing
// follows from what is not in it. What is in it is true: records have checksums, and
// what they say has happened.
type foreignSpool struct {
	dir  string
	card card // zero = nothing that can be read
	// heard is when the card was last seen to change, by our clock, or when we began to
	// look.
	heard time.Time
	// alive says that it has changed since we began to look.
	alive bool

	facts map[task.Ref]*fact
	// complete says that the last look showed a whole journal: there is nothing behind a
	// part that cannot be read.
	complete bool
	sum      [sha256.Size]byte // of the journal of which the facts are
	whole    bool              // all of that could be read

	traces []string // of owners that handed over to it, when we began to look
	traced bool     // they were looked for
}

// maxForeignJournal bounds what is read of a journal: far more than one grows to before
// it is made small.
const maxForeignJournal = 256 << 20

// fact is what a journal says of an attempt.
type fact struct {
	boot     string
	claimed  bool
	started  *supervisorpb.Started
	stopping *supervisorpb.Stopping
	end      *supervisorpb.End
	forgot   bool // some owner has the end
}

// factsOf takes in the records of a journal, in their order.
func factsOf(recs []*supervisorpb.JournalRecord) map[task.Ref]*fact {
	out := map[task.Ref]*fact{}
	for _, r := range recs {
		ref := refOf(r.GetName())
		f := out[ref]
		if f == nil {
			f = &fact{}
			out[ref] = f
		}
		f.boot = string(r.GetBootId())
		switch k := r.GetKind().(type) {
		case *supervisorpb.JournalRecord_Claim:
			if f.end.GetRecalledBy() != 0 {
				f.end = nil // it came back, from a later owner
			}
			f.claimed = true
		case *supervisorpb.JournalRecord_Started:
			f.started = k.Started
		case *supervisorpb.JournalRecord_Stopping:
			f.stopping = k.Stopping
		case *supervisorpb.JournalRecord_Ended:
			f.end = k.Ended
		case *supervisorpb.JournalRecord_Forgot:
			f.forgot = true
		}
	}
	return out
}

// begun says whether the attempt was begun there, or is about to be. That is so of one
// place at most.
func (f *fact) begun() bool {
	return f != nil && (f.started != nil || f.claimed && f.end.GetKind() != supervisorpb.End_KIND_NOT_BEGUN)
}

// refused says that it has not begun there, since somebody did not want it to.
func (f *fact) refused() bool {
	return f != nil && f.started == nil && f.end.GetKind() == supervisorpb.End_KIND_NOT_BEGUN
}

// report is the fact as a supervisor would report it.
func (f *fact) report(ref task.Ref) *supervisorpb.Report {
	r := &supervisorpb.Report{
		Name: nameOf(ref), Phase: supervisorpb.Report_PHASE_QUEUED,
		StartedAt: f.started.GetAt(), Pid: f.started.GetPid(), StartTicks: f.started.GetTicksFrom(), StartTicksTo: f.started.GetTicksTo(),
		Cgroup: f.started.GetCgroup(), Cause: f.stopping.GetCause(), StoppingAt: f.stopping.GetAt(), End: f.end,
	}
	switch {
	case f.end != nil:
		r.Phase = supervisorpb.Report_PHASE_ENDED
	case f.started != nil:
		r.Phase = supervisorpb.Report_PHASE_RUNNING
	}
	return r
}

// look reads what there is now. An error leaves what was known. The card comes first:
// one that says that its supervisor has left is followed by a journal that is complete.
func (f *foreignSpool) look(now time.Time) error {
	f.complete = false
	if c, err := readCard(f.dir); err == nil && c != f.card {
		f.alive = f.alive || f.card != (card{})
		f.card, f.heard = c, now
	}
	content, err := readForeign(filepath.Join(f.dir, journalName))
	if err != nil {
		return err
	}
	sum := sha256.Sum256(content)
	if f.facts == nil || sum != f.sum {
		recs, good, err := readRecords(bytes.NewReader(content))
		if err != nil {
			return err
		}
		f.facts, f.sum, f.whole = factsOf(recs), sum, good == int64(len(content))
	}
	f.complete = f.whole
	return nil
}

// readForeign reads a journal that is being written.
func readForeign(path string) ([]byte, error) {
	j, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("read the journal of another host: %w", err)
	}
	defer j.Close() //nolint:errcheck // only read from
	b, err := io.ReadAll(io.LimitReader(j, maxForeignJournal))
	if err != nil {
		return nil, fmt.Errorf("read the journal of another host: %w", err)
	}
	return b, nil
}

// foreignSpools returns the folders of spools whose supervisors cannot be reached from
// here, other than those in former, which are of this machine.
func foreignSpools(dir, present string, former []string, id host.Identity) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for spools of other hosts: %w", err)
	}
	ours := map[string]bool{present: true}
	for _, path := range former {
		ours[path] = spoolBoot(path) != shortBoot(id)
	}
	var out []string
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if e.IsDir() && spoolName.MatchString(e.Name()) && !ours[path] {
			out = append(out, path)
		}
	}
	return out, nil
}

// spoolBoot is the boot in the name of a spool.
func spoolBoot(dir string) string {
	if m := spoolName.FindStringSubmatch(filepath.Base(dir)); m != nil {
		return m[2]
	}
	return ""
}

// ofTwin says whether a spool that bears the id of this machine is that of another
// one, which was made from the same image. A folder on a disk of ours is seen by others
// where we serve it to them.
func ofTwin(dir string, id host.Identity) bool {
	c, err := readCard(dir)
	return err == nil && c.Host != id.Name && c.Boot != id.Boot
}

// isOf says whether it is the spool of the supervisor that a handle names.
func (f *foreignSpool) isOf(h handle) bool {
	if f.card != (card{}) {
		return f.card.Boot == h.Boot && f.card.PIDs == h.PIDs
	}
	return spoolBoot(f.dir) == shortBoot(host.Identity{Boot: h.Boot})
}
