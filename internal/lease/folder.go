package lease

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// What is in the folder of a worker. All of it is for the owner alone.
const (
	cardFile   = "card.json" // what the worker is; it is written first
	leftFile   = "left"      // it has ended in order, and its supervisor has nothing to do
	ledgerFile = "leases"    // what it was given, by the queue's owner
	claimsDir  = "claims"
	spoolDir   = "spool" // of its process supervisor
	// askFile and answerFile carry calls where there is no connection; secretFile is what
	// it needs for one.
	askFile    = "ask"
	answerFile = "answer"
	secretFile = "secret"
	// markFile and voidFile are what claims are links to: the worker's and the owner's.
	markFile = "mark"
	voidFile = "void"
)

// workerName is what an id of a worker looks like, which is the name of a folder, too.
var workerName = regexp.MustCompile(`^[a-z0-9]{8,40}$`)

// IsName says whether a word can be the id of a worker.
func IsName(word string) bool { return workerName.MatchString(word) }

// Folder is that of a worker.
type Folder struct{ Dir string }

// FolderOf is the folder of a worker below the folder of all.
func FolderOf(workersDir, id string) Folder { return Folder{filepath.Join(workersDir, id)} }

func (f Folder) path(name string) string { return filepath.Join(f.Dir, name) }

// ID is the worker's.
func (f Folder) ID() string { return filepath.Base(f.Dir) }

// Spool is where the worker's process supervisor keeps its journal.
func (f Folder) Spool() string { return f.path(spoolDir) }

// Ask is the file in which the worker calls.
func (f Folder) Ask() string { return f.path(askFile) }

// Answer is the file in which calls are answered.
func (f Folder) Answer() string { return f.path(answerFile) }

// Secret is the file with what a connection takes.
func (f Folder) Secret() string { return f.path(secretFile) }

// Card is what a worker says of itself.
type Card struct {
	Process  host.Process  `json:"process"`
	Where    host.Identity `json:"where"`
	Job      string        `json:"job,omitempty"`     // Slurm's number of it
	Auto     bool          `json:"auto,omitempty"`    // the orchestrator has submitted it
	Until    time.Time     `json:"until,omitzero"`    // when its job ends
	CPUMilli int64         `json:"cpu_milli"`         // what it has for tasks
	MemBytes int64         `json:"mem,omitempty"`     // 0 = not counted
	GPUs     int           `json:"gpus,omitempty"`    //
	Margin   time.Duration `json:"margin,omitempty"`  // before Until by which all is to be over
	Version  string        `json:"version,omitempty"` // of its program
}

// Make makes the folder, with the worker's card in it last: before that it is none.
func (f Folder) Make(c Card) error {
	for _, dir := range []string{f.Dir, f.path(claimsDir), f.path(spoolDir)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make the worker's folder: %w", err)
		}
	}
	// Files that others will append to, or link to, are made here: of a file that is there
	// a client of NFS asks the server each time it is opened.
	for _, name := range []string{markFile, ledgerFile, askFile, answerFile} {
		if err := f.put(name, nil); err != nil {
			return err
		}
	}
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return f.put(cardFile, b)
}

// Card reads what the worker says of itself. The error matches fs.ErrNotExist when there
// is no such worker.
func (f Folder) Card() (Card, error) {
	var c Card
	b, err := os.ReadFile(f.path(cardFile))
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("%s: %w", f.path(cardFile), err)
	}
	return c, nil
}

// Unmade says whether the folder is what a worker has left that ended while it made it, or
// what is left of one that was being removed: it has no card, and nothing has come for long.
func (f Folder) Unmade(now time.Time) bool {
	info, err := os.Lstat(f.Dir)
	return err == nil && info.IsDir() && !f.There() && now.Sub(info.ModTime()) > unmadeAfter
}

// unmadeAfter is far longer than a folder takes to be made.
const unmadeAfter = time.Hour

// Leave notes that the worker has ended in order.
func (f Folder) Leave() error { return f.put(leftFile, nil) }

// HasLeft says whether it has.
func (f Folder) HasLeft() bool {
	_, err := os.Lstat(f.path(leftFile))
	return err == nil
}

// There says whether there is such a worker.
func (f Folder) There() bool {
	_, err := os.Lstat(f.path(cardFile))
	return !errors.Is(err, fs.ErrNotExist)
}

// Remove removes the folder. No claim can be made in it any more.
func (f Folder) Remove() error { return os.RemoveAll(f.Dir) }

// put writes a file whole.
func (f Folder) put(name string, content []byte) error {
	return WriteWhole(f.path(name), content)
}

// WriteWhole writes a file for its owner alone, so that others see all of it or nothing.
func WriteWhole(path string, content []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.new") // of mode 0600
	if err != nil {
		return err
	}
	_, err = tmp.Write(content)
	if err == nil {
		err = tmp.Sync()
	}
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(tmp.Name()))
	}
	return nil
}

// claim is the path of the claim of an attempt under a lease.
func (f Folder) claim(r task.Ref, lease uint64) string {
	b := append([]byte(f.path(claimsDir)), filepath.Separator)
	b = append(strconv.AppendUint(b, uint64(r.Seq), 10), '-')
	b = append(strconv.AppendInt(b, int64(r.Attempt), 10), '-')
	return string(strconv.AppendUint(b, lease, 10))
}

// Claim is made by the worker, before it begins an attempt. false says that the attempt
// was given on.
func (f Folder) Claim(r task.Ref, lease uint64) (bool, error) {
	return f.link(markFile, r, lease)
}

// Void is made by the owner, before it gives an attempt on. false says that the worker
// has begun it, or is about to. Where somebody has removed the folder no claim can be made,
// which is as good.
func (f Folder) Void(r task.Ref, lease uint64) (bool, error) {
	ok, err := f.void(r, lease)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(f.path(claimsDir)); errors.Is(err, fs.ErrNotExist) {
			return true, nil
		}
	}
	return ok, err
}

func (f Folder) void(r task.Ref, lease uint64) (bool, error) {
	if _, err := os.Lstat(f.path(voidFile)); errors.Is(err, fs.ErrNotExist) {
		if err := f.makeVoid(); err != nil {
			return false, err
		}
	}
	return f.link(voidFile, r, lease)
}

// makeVoid makes the file that the owner's claims are links to. One that is there stays:
// an owner that is being followed may have claimed by it at this moment.
func (f Folder) makeVoid() error {
	tmp, err := os.CreateTemp(f.Dir, voidFile+".*.new")
	if err != nil {
		return err
	}
	err = os.Link(tmp.Name(), f.path(voidFile))
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	return errors.Join(err, tmp.Close(), os.Remove(tmp.Name()))
}

// link makes a claim. On NFS an answer that was lost looks like a refusal, so whose a
// claim is that is there is looked up.
func (f Folder) link(whose string, r task.Ref, lease uint64) (bool, error) {
	path := f.claim(r, lease)
	err := os.Link(f.path(whose), path)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrExist):
		a, errA := os.Stat(path)
		b, errB := os.Stat(f.path(whose))
		if err := errors.Join(errA, errB); err != nil {
			return false, err
		}
		return os.SameFile(a, b), nil
	case errors.Is(err, fs.ErrNotExist) && whose == markFile:
		return false, nil // the owner has removed the folder: nothing here is ours any more
	default:
		return false, fmt.Errorf("claim attempt %d of task %d: %w", r.Attempt, r.Seq, err)
	}
}

// Voided says whether the owner has the claim.
func (f Folder) Voided(r task.Ref, lease uint64) bool {
	a, errA := os.Stat(f.claim(r, lease))
	b, errB := os.Stat(f.path(voidFile))
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// Drop removes the claim of an attempt that the worker has no use for any more.
func (f Folder) Drop(r task.Ref, lease uint64) error {
	if err := os.Remove(f.claim(r, lease)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
