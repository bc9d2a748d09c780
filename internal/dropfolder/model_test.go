package dropfolder

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// machine drives a Folder round by round, with a clock of its own, and knows what
// has to become of every file that it wrote.
type machine struct {
	dir    string
	now    time.Time
	ledger *ledger
	folder *Folder
	n      int               // files written
	here   map[string]file   // what lies in pending/, as far as it was not taken
	tasks  map[string]string // that must be in the queue in the end, of files that are gone from pending/: the name of each
	bad    int               // so many must be rejected in the end
	unsafe string            // a directory that others can write to; "" = none
}

// file is one that the machine wrote.
type file struct {
	id   string // "" = it will never be a task
	rest string // of its content, still to be written
}

// TestRandomHistories: whatever is written, replaced, finished, refused, ended and
// killed between rounds, in whatever order: what was whole is a task once and has an
// outcome under its name, and the rest is set aside.
func TestRandomHistories(t *testing.T) {
	base := inMemory(t)
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(base, "")
		check(t, err)
		defer os.RemoveAll(dir)
		m := &machine{dir: dir, now: time.Unix(1_800_000_000, 0), ledger: newLedger(), here: map[string]file{}, tasks: map[string]string{}}
		m.begin(t)
		m.round(t)
		t.Repeat(map[string]func(*rapid.T){
			"write": m.write, "half": m.half, "finish": m.finish, "spoil": m.spoil, "round": m.round, "rounds": m.rounds,
			"end": m.end, "crash": m.crash, "refuse": m.refuse, "unsafe": m.makeUnsafe, "": m.invariant,
		})
		m.settle(t)
		m.folder.close()
	})
}

func check(t *rapid.T, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

func (m *machine) path(parts ...string) string {
	return filepath.Join(append([]string{m.dir}, parts...)...)
}

func (m *machine) begin(t *rapid.T) {
	f, err := New(Options{Dir: m.dir, Tasks: m.ledger, Log: m.ledger, Origin: m.ledger, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return m.now }})
	check(t, err)
	f.cursor = m.ledger.LastIndex()
	m.folder = f
}

// names are few, so that they are used again.
func aName(t *rapid.T) string { return rapid.SampledFrom([]string{"a", "b", "c~d"}).Draw(t, "name") }

// put replaces what has a name in pending/, in one step.
func (m *machine) put(t *rapid.T, name, text string, f file) {
	m.notice()
	temp := m.path("pending", ".writing")
	check(t, os.WriteFile(temp, []byte(text), 0o600))
	check(t, os.Rename(temp, m.path("pending", name+suffix)))
	m.here[name] = f
}

// notice sees which files were taken meanwhile: what has become of them is not the
// writer's any more.
func (m *machine) notice() {
	for name, f := range m.here {
		if _, err := os.Lstat(m.path("pending", name+suffix)); err == nil {
			continue
		}
		if f.id == "" || f.rest != "" {
			m.bad++
		} else {
			m.tasks[f.id] = name
		}
		delete(m.here, name)
	}
}

func (m *machine) write(t *rapid.T) {
	m.n++
	id := fmt.Sprintf("t%d", m.n)
	m.put(t, aName(t), content(id), file{id: id})
}

func (m *machine) half(t *rapid.T) {
	m.n++
	id := fmt.Sprintf("t%d", m.n)
	text := content(id)
	cut := rapid.IntRange(0, len(text)-1).Draw(t, "cut")
	m.put(t, aName(t), text[:cut], file{id: id, rest: text[cut:]})
}

func (m *machine) finish(t *rapid.T) {
	m.notice()
	name := aName(t)
	f, there := m.here[name]
	if !there || f.rest == "" {
		return
	}
	check(t, appendTo(m.path("pending", name+suffix), f.rest))
	f.rest = ""
	m.here[name] = f
}

func (m *machine) spoil(t *rapid.T) {
	text := rapid.SampledFrom([]string{`[]`, `{"class":"quick"}`, `{`, `{"id":"a b"}`}).Draw(t, "text")
	m.put(t, aName(t), text, file{})
}

func (m *machine) round(t *rapid.T) {
	m.now = m.now.Add(time.Duration(rapid.IntRange(1, 1500).Draw(t, "ms")) * time.Millisecond)
	m.folder.round(t.Context())
}

func (m *machine) rounds(t *rapid.T) {
	for range rapid.IntRange(1, 40).Draw(t, "rounds") {
		m.now = m.now.Add(2 * time.Second)
		m.folder.round(t.Context())
	}
}

func (m *machine) end(t *rapid.T) {
	var going []string
	for id, b := range m.ledger.all() {
		if !b.outcome.State.Terminal() {
			going = append(going, id)
		}
	}
	if len(going) > 0 {
		slices.Sort(going)
		m.ledger.end(rapid.SampledFrom(going).Draw(t, "id"), Outcome{State: task.Succeeded})
	}
}

// crash begins another Folder, maybe on a host whose clock is late.
func (m *machine) crash(t *rapid.T) {
	m.folder.close()
	m.now = m.now.Add(-time.Duration(rapid.IntRange(0, 10).Draw(t, "seconds")) * time.Second)
	m.begin(t)
}

func (m *machine) refuse(t *rapid.T) {
	m.ledger.submitErr = nil
	if rapid.Bool().Draw(t, "refuse") {
		m.ledger.submitErr = task.Errorf(task.CodeUnavailable, "not now")
	}
}

func (m *machine) makeUnsafe(t *rapid.T) {
	if m.unsafe != "" {
		check(t, os.Chmod(m.path(m.unsafe), 0o700))
	}
	m.unsafe = rapid.SampledFrom([]string{"", "pending", "taken", "done"}).Draw(t, "unsafe")
	if m.unsafe != "" {
		check(t, os.Chmod(m.path(m.unsafe), 0o770))
	}
}

// invariant: no task of ours but those that were written whole.
func (m *machine) invariant(t *rapid.T) {
	for id, b := range m.ledger.all() {
		if string(b.sub.Payload["n"]) != `"`+id+`"` {
			t.Fatalf("task %s is %+v", id, b.sub)
		}
	}
}

// settle lets everything come to its end.
func (m *machine) settle(t *rapid.T) {
	m.ledger.submitErr = nil
	if m.unsafe != "" {
		check(t, os.Chmod(m.path(m.unsafe), 0o700))
	}
	for range 200 {
		m.now = m.now.Add(2 * time.Second)
		m.folder.round(t.Context())
		m.ledger.endAll()
	}
	m.notice()
	if m.folder.Busy() {
		t.Error("it is still busy")
	}
	all := m.ledger.all()
	if len(all) != len(m.tasks) || len(m.here) > 0 {
		t.Errorf("tasks %v, want %v; still there are %v", all, m.tasks, m.here)
	}
	m.checkOutcomes(t)
	if n := len(m.names(t, "rejected")); n != 2*m.bad {
		t.Errorf("rejected has %d files, want %d twice: %q", n, m.bad, m.names(t, "rejected"))
	}
	if left := m.names(t, "taken"); len(left) > 0 {
		t.Errorf("taken has %q", left)
	}
}

// checkOutcomes: under each name is the outcome of the last file of that name, and
// no task has two.
func (m *machine) checkOutcomes(t *rapid.T) {
	last := map[string]string{} // the latest task of each name
	for id, name := range m.tasks {
		if l := last[name]; len(id) > len(l) || len(id) == len(l) && id > l {
			last[name] = id // they are numbered
		}
	}
	count := map[string]int{}
	for _, file := range m.names(t, "done") {
		b, err := os.ReadFile(m.path("done", file))
		check(t, err)
		var r struct{ ID, Status string }
		check(t, json.Unmarshal(b, &r))
		count[r.ID]++
		if id := last[strings.TrimSuffix(file, suffix)]; id != "" && id != r.ID {
			t.Errorf("done/%s is of %s, want %s", file, r.ID, id)
		}
	}
	for id, name := range m.tasks {
		if count[id] > 1 || last[name] == id && count[id] == 0 {
			t.Errorf("%d outcomes of %s, whose name is %s; the last of each name are %v", count[id], id, name, last)
		}
	}
}

func (m *machine) names(t *rapid.T, dir string) []string {
	list, err := os.ReadDir(m.path(dir))
	check(t, err)
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}
