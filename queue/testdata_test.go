package queue_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

var update = flag.Bool("update", false, "write the database of the present schema under testdata")

// The database of each schema, as the first release with it wrote it, and what
// is in it. They are never written again: later releases have to read them.
const (
	oldDatabase = "testdata/v1.db.gz"
	oldContent  = "testdata/v1.json"
)

// content is what the queue answers about a database.
type content struct {
	ID      string
	Tasks   []contentTask
	Removed []task.Final
	Heads   []string
	Records []task.Record
	Next    task.Instant
}

type contentTask struct {
	Spec   *task.Spec
	Digest task.Digest // of the bytes that JSON cannot show, too
	Seq    task.Seq
	Status task.Status
	Result task.Result
}

var oldTime = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// TestWriteTestdata makes a database with a task in every state, and everything
// else that this schema can hold.
func TestWriteTestdata(t *testing.T) {
	if !*update {
		t.Skip("run with -update, and only when the schema version has changed")
	}
	dir := t.TempDir()
	now := oldTime
	opts := queue.Options{Dir: dir, Now: func() time.Time { return now }, Retention: queue.Retention{Age: time.Hour}}
	q := openQueue(t, opts)
	writeOldTasks(t, q)
	now = now.Add(2 * time.Hour) // the first ends are removed, and later ones stay
	if _, _, err := q.Expire(context.Background(), task.At(now)); err != nil {
		t.Fatal(err)
	}
	writeOldEnds(t, q, task.At(now))
	want := readContent(t, q)
	closeQueue(t, q)
	writeOld(t, dir, want)
}

// writeOldTasks submits tasks and leaves them in every state short of an end.
func writeOldTasks(t *testing.T, q *queue.Queue) {
	t.Helper()
	at := task.At(oldTime)
	on := func(ev task.Event) task.Event { ev.At = at; return ev }
	full := fullSpec("full")
	tasks := submit(t, q, spec("gone"), full, spec("assigned"), spec("starting"), spec("running"), spec("stopping"),
		spec("held"), spec("delayed"), after("blocked", task.AfterOK, "running"),
		after("refused-early", task.AfterOK, "gone"), after("released", task.AfterAny, "gone"))
	seq := map[string]task.Seq{}
	for _, tk := range tasks {
		seq[tk.Spec.ID] = tk.Seq
	}
	lease := on(placed)
	lease.Lease = task.Lease{CPUMilli: 2000, MemBytes: 1 << 30, GPUs: []string{"GPU-1", "GPU-2"}, GPUMem: 1 << 20}
	apply(t, q, seq["assigned"], lease)
	apply(t, q, seq["starting"], lease, on(launched))
	apply(t, q, seq["running"], lease, on(launched), on(started), on(task.Event{Kind: task.EventNoted, Text: "Slurm: Priority"}))
	apply(t, q, seq["stopping"], lease, on(launched), on(started),
		on(task.Event{Kind: task.EventCancelAsked, By: "uid 1000", Text: "a mistake"}),
		on(task.Event{Kind: task.EventStopping, Cause: task.CauseCancel}))
	apply(t, q, seq["held"], on(task.Event{Kind: task.EventHeld, By: "me", Text: "restored from a backup"}))
	apply(t, q, seq["delayed"], lease, on(task.Event{Kind: task.EventNotStarted, Text: "no such image", Class: task.ImageTrouble}))
	apply(t, q, seq["gone"], lease, on(launched), on(started), on(failed))
	// "gone" releases its dependants.
	if _, _, err := q.Advance(context.Background(), at); err != nil {
		t.Fatal(err)
	}
}

// writeOldEnds adds a task in every state that is an end, and what Advance has
// still to see to: a dependant, and a cancel.
func writeOldEnds(t *testing.T, q *queue.Queue, at task.Instant) {
	t.Helper()
	on := func(ev task.Event) task.Event { ev.At = at; return ev }
	tasks := submit(t, q, spec("succeeded"), spec("failed"), spec("cancelled"), spec("lost"),
		after("to-release", task.AfterOK, "succeeded"), spec("cancel-asked"), after("refused", task.AfterOK, "gone"))
	end := on(succeeded)
	change := task.Change{Seq: tasks[0].Seq, Event: end, Result: []byte(`{"answer":42}`)}
	change.Event.Attempt = 1
	change.Event.Outcome = task.Outcome{MaxRSS: 1 << 20, CPUTime: time.Second, Node: "node1"}
	apply(t, q, tasks[0].Seq, on(placed), on(launched), on(started))
	if _, err := q.Apply(context.Background(), []task.Change{change}); err != nil {
		t.Fatal(err)
	}
	apply(t, q, tasks[1].Seq, on(placed), on(launched), on(started), on(failed))
	apply(t, q, tasks[2].Seq, on(task.Event{Kind: task.EventCancelled}))
	apply(t, q, tasks[3].Seq, on(placed), on(launched), on(task.Event{Kind: task.EventVanished, Text: "the machine was started anew"}))
	apply(t, q, tasks[5].Seq, on(task.Event{Kind: task.EventCancelAsked, By: "me"}))
	retry := on(task.Event{Kind: task.EventRetried, By: "me"})
	apply(t, q, tasks[1].Seq, retry, on(placed), on(launched), on(started), on(failed))
}

func fullSpec(id string) *task.Spec {
	return &task.Spec{
		ID: id, Name: "a name", Class: "gpu", Priority: 3,
		Argv: []string{"python", "train.py", "\xff\xfe"}, Dir: "/home/user", Env: []string{"A=1", "B=\xff"},
		Payload: []byte(`{"long":"` + string(bytes.Repeat([]byte("x"), 5000)) + `"}`),
		Timeout: time.Hour, Grace: time.Minute, Retries: 2, BackoffBase: time.Second, BackoffCap: time.Minute, OnLost: task.LostRetry,
		Resources: task.Resources{CPUMilli: 500, MemBytes: 1 << 30, GPUs: 1, GPUMem: 1 << 30, GPUModel: "H100", MIG: "1g.10gb"},
		Image:     "some/image:1", Needs: []string{"redis"}, Backends: []string{"container", "slurm"},
		WorkflowID: "w", Tenant: "t", SubmitUID: 1000, Via: "socket", Extra: []byte(`{"x":1}`),
	}
}

func writeOld(t *testing.T, dir string, c content) {
	t.Helper()
	db, err := os.ReadFile(filepath.Join(dir, "queue-000001.db"))
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	if _, err := zip.Write(db); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{oldDatabase: packed.Bytes(), oldContent: text} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// readContent asks the queue for all that it has.
func readContent(t *testing.T, q *queue.Queue) content {
	t.Helper()
	c := content{ID: q.ID()}
	list, next, err := q.List(task.Filter{Limit: 1000})
	if err != nil || next != 0 {
		t.Fatal(next, err)
	}
	for _, l := range list {
		tk := get(t, q, l.Seq) // a listing has no environments
		r, err := q.Result(l.Seq)
		if err != nil {
			t.Fatal(err)
		}
		c.Tasks = append(c.Tasks, contentTask{Spec: tk.Spec, Digest: tk.Spec.Digest(), Seq: tk.Seq, Status: tk.Status(), Result: r})
	}
	if _, err = q.Lookup("gone"); err != nil {
		var removed *queue.RemovedError
		if !errors.As(err, &removed) {
			t.Fatal(err)
		}
		c.Removed = append(c.Removed, removed.Final)
	}
	heads, err := headsOf(q, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range heads {
		c.Heads = append(c.Heads, h.ID)
	}
	if c.Records, err = q.Records(0, 1000); err != nil {
		t.Fatal(err)
	}
	st, err := q.Stats()
	if err != nil {
		t.Fatal(err)
	}
	c.Next = st.NextDue
	return c
}

// unpackOld puts the old database where a queue would have it.
func unpackOld(t *testing.T) (dir, path string) {
	t.Helper()
	f, err := os.Open(oldDatabase)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	db, err := io.ReadAll(zip)
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	path = filepath.Join(dir, "queue-000001.db")
	if err := os.WriteFile(path, db, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, path
}

// TestOldDatabase reads the database of schema 1: opening it for reading changes
// nothing, and everything in it reads as it was written.
func TestOldDatabase(t *testing.T) {
	t.Parallel()
	dir, path := unpackOld(t)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(oldContent)
	if err != nil {
		t.Fatal(err)
	}
	q := openQueue(t, queue.Options{Dir: dir, ReadOnly: true})
	got, err := json.MarshalIndent(readContent(t, q), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("content\n%s\nwant\n%s", got, want)
	}
	closeQueue(t, q)
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("opening for reading changed the database (%v)", err)
	}
}

// TestOldDatabaseWorks goes on with it as an owner.
func TestOldDatabaseWorks(t *testing.T) {
	t.Parallel()
	dir, _ := unpackOld(t)
	q := openQueue(t, queue.Options{Dir: dir})
	advance(t, q, task.At(oldTime.Add(48*time.Hour)))
	submit(t, q, spec("new"))
	for id, want := range map[string]task.State{
		"to-release": task.Pending, "refused": task.Failed, "delayed": task.Pending, "cancel-asked": task.Cancelled,
	} {
		got, err := q.Lookup(id)
		if err != nil || got.State() != want || got.Status().Blocked != 0 && want == task.Pending {
			t.Errorf("%s is %s, blocked by %d (%v)", id, got.State(), got.Status().Blocked, err)
		}
	}
	heads, err := headsOf(q, 100)
	if err != nil || len(heads) < 4 {
		t.Errorf("heads %+v (%v)", heads, err)
	}
}
