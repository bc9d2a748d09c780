package slurm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

// What is in the folder of an attempt, beside what wrapper.sh makes there. All of it is
// for the owner alone.
const (
	recordFile = "record"   // written by the job
	intentFile = "intent"   // that sbatch is about to be called, and when
	jobsFile   = "jobs"     // the numbers that sbatch answered
	signalFile = "signal"   // that the job was asked to end, and why
	scriptFile = "script"   // what sbatch was given, for people
	argvFile   = "argv"     // what the job runs, as a list
	cwdFile    = "cwd"      // and where, as a list of one
	bodyFile   = "body"     // the script of a template, which the job runs; empty = of none
	newsFile   = "news.log" // beside the folders of all: who has news
)

// folder is that of an attempt.
type folder struct {
	layout taskfiles.Layout
	ref    task.Ref
}

func (f folder) path(name string) string { return filepath.Join(f.layout.JobDir(f.ref), name) }

// newsPath is where jobs say that something is new.
func newsPath(l taskfiles.Layout) string { return filepath.Join(l.Dir, newsFile) }

// write makes the folder with all that the job reads. It may be there already.
func (f folder) write(p plan, news string) (text []byte, err error) {
	if err := f.layout.Prepare(f.ref); err != nil {
		return nil, err
	}
	dir := f.layout.JobDir(f.ref)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		// No job was submitted: what is there is of a queue before this one was restored.
		if err := taskfiles.SetAside(f.layout.LogPath(f.ref)); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	text = p.script(dir, news)
	spec := p.spec
	if len(spec.Payload) > 0 {
		// Only the first time: a job may read it by now.
		if err := taskfiles.WritePayload(f.layout.PayloadPath(f.ref), spec.Payload); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	for name, content := range map[string][]byte{
		scriptFile: text, argvFile: list(p.argv(f.path(bodyFile))), cwdFile: list([]string{p.dir()}), bodyFile: []byte(p.job.Body),
		"env": list(spec.Ambient), "env.task": list(f.environment(p)), "setup": lines(p.site.Setup),
	} {
		if err := f.put(name, content); err != nil {
			return nil, err
		}
	}
	// The record is made here and only added to there: of a file that it knows, a client
	// of NFS asks the server how long it is each time it opens it; whether there is a new
	// one it may not ask for half a minute.
	r, err := os.OpenFile(f.path(recordFile), os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return text, r.Close()
}

// environment is what a template mentions of the payload, what the submitter asked for, and
// what tells a program who it is.
func (f folder) environment(p plan) []string {
	out := slices.Concat(p.job.Env, p.spec.Env, []string{
		"DSPY_TASK_ID=" + p.spec.ID, "DSPY_TASK_CLASS=" + p.spec.Class, "DSPY_TASK_ATTEMPT=" + strconv.Itoa(p.ref.Attempt),
		"DSPY_RESULT_FILE=" + f.layout.ResultPath(f.ref),
	})
	if len(p.spec.Payload) > 0 {
		out = append(out, "DSPY_PAYLOAD_FILE="+f.layout.PayloadPath(f.ref))
	}
	return slices.DeleteFunc(out, func(kv string) bool { return !exportable(kv) })
}

// exportable says whether bash can give a variable to a program.
func exportable(kv string) bool {
	name, _, ok := strings.Cut(kv, "=")
	return ok && name != "" && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789") == "" && (name[0] < '0' || name[0] > '9')
}

// list is words as bash's read -d ” takes them.
func list(words []string) []byte {
	var b bytes.Buffer
	for _, w := range words {
		b.WriteString(w)
		b.WriteByte(0)
	}
	return b.Bytes()
}

func lines(text []string) []byte {
	if len(text) == 0 {
		return nil
	}
	return []byte(strings.Join(text, "\n") + "\n")
}

// put writes a file whole, and to the disk.
func (f folder) put(name string, content []byte) error {
	tmp, err := os.CreateTemp(f.layout.JobDir(f.ref), name+".*.new")
	if err != nil {
		return err
	}
	_, err = tmp.Write(content)
	if err == nil {
		err = tmp.Sync()
	}
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), f.path(name))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", f.path(name), err), os.Remove(tmp.Name()))
	}
	return nil
}

// intend notes that sbatch is about to be called.
func (f folder) intend(at time.Time) error {
	if err := f.put(intentFile, []byte(strconv.FormatInt(at.UnixNano(), 10)+"\n")); err != nil {
		return err
	}
	return syncDir(f.layout.JobDir(f.ref))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) {
		err = nil // a file system that has no need of it
	}
	return errors.Join(err, d.Close())
}

// intent is when sbatch was about to be called last; zero = never.
func (f folder) intent() (time.Time, error) {
	b, err := os.ReadFile(f.path(intentFile))
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	ns, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s: %w", f.path(intentFile), err)
	}
	return time.Unix(0, ns), nil
}

// keepJobs notes the numbers of jobs. They are facts that can be found out again.
func (f folder) keepJobs(ids []string) error {
	return os.WriteFile(f.path(jobsFile), lines(ids), 0o600)
}

func (f folder) jobs() ([]string, error) {
	b, err := os.ReadFile(f.path(jobsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return strings.Fields(string(b)), err
}

// record is what the job noted. known is false when there is no folder.
func (f folder) record() (r record, known bool, err error) {
	b, err := os.ReadFile(f.path(recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, false, nil
	}
	return parseRecord(string(b)), err == nil, err
}

// signal is that the job was asked to end, when, and why.
type signal struct {
	At    time.Time  `json:"at"`
	Cause task.Cause `json:"cause"`
}

func (s signal) sent() bool { return !s.At.IsZero() }

func (f folder) signal() signal {
	var s signal
	b, err := os.ReadFile(f.path(signalFile))
	if err != nil || json.Unmarshal(b, &s) != nil {
		return signal{}
	}
	return s
}

func (f folder) keepSignal(s signal) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.layout.JobDir(f.ref), 0o700); err != nil {
		return err
	}
	return f.put(signalFile, b)
}

// remove removes what only the job itself needed. The output stays.
func (f folder) remove() error {
	return errors.Join(os.RemoveAll(f.layout.JobDir(f.ref)), ifThere(os.Remove(f.layout.PayloadPath(f.ref))), ifThere(os.Remove(f.layout.ResultPath(f.ref))))
}

func ifThere(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
