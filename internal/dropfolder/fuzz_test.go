package dropfolder

import (
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskid"
)

// FuzzNames: whatever a file is called, what it is called in taken/ leads back to
// it, and every name that is made of it is one that a file may have, and another
// for each ticket.
func FuzzNames(f *testing.F) {
	for _, seed := range []string{"a", "a~b", strings.Repeat("x", 250), strings.Repeat("ü", 125), "\xff\xfe", "a.json", "~", strings.Repeat("\x80", 240)} {
		f.Add(seed, 255)
	}
	f.Add(strings.Repeat("y", 130), 143)
	f.Fuzz(func(t *testing.T, base string, nameMax int) {
		if nameMax < 100 || nameMax > 255 || !eligible(base+suffix) || len(base)+len(suffix) > nameMax || strings.ContainsAny(base, "/\x00") {
			return
		}
		var m taskid.Maker
		tickets := [2]string{}
		for i := range tickets {
			var err error
			tickets[i], err = m.Next(time.UnixMilli(1_800_000_000_000))
			must(t, err)
		}
		name, fits := takenName(tickets[0], base, nameMax)
		ticket, got, ok := splitTaken(name)
		if !ok || ticket != tickets[0] || fits && got != base || !fits && got != "" {
			t.Fatalf("%q is taken as %q, which is read as %q, %q, %v", base, name, ticket, got, ok)
		}
		names := []string{name, ticketed(base, ticket, nameMax-len(suffix)) + suffix}
		for _, r := range rejectedBases(base, ticket, nameMax) {
			names = append(names, r+suffix, r+errorSuffix)
		}
		for _, n := range names {
			if len(n) > nameMax || n == "" || n[0] == '.' || strings.ContainsAny(n, "/\x00") {
				t.Fatalf("%q becomes %q, of %d bytes", base, n, len(n))
			}
		}
		if ticketed(base, tickets[0], 200) == ticketed(base, tickets[1], 200) {
			t.Fatalf("%q becomes one name with two tickets", base)
		}
	})
}

// FuzzTakenFiles: no name that somebody puts into taken/ is taken for one of ours,
// unless we could have made it.
func FuzzTakenFiles(f *testing.F) {
	for _, seed := range []string{"01HZZZZZZZZZZZZZZZZZZZZZZZ~a.json", "01hzzzzzzzzzzzzzzzzzzzzzzz~a.json", "x", "~.json", "01HZZZZZZZZZZZZZZZZZZZZZZZ~.json"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, file string) {
		ticket, base, ok := splitTaken(file)
		if ok && ticket+separator+base+suffix != file {
			t.Fatalf("%q is read as %q and %q", file, ticket, base)
		}
		if ok && task.ValidateID(ticket) != nil {
			t.Fatalf("%q has the ticket %q", file, ticket)
		}
	})
}

// FuzzRequest: a request names a task that there could be, or is refused.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{`{"cancel":"a","by":"me","reason":""}`, `{"cancel":""}`, `[]`, `{"cancel":"a"}{}`, `null`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		if req, err := readRequest(content); err == nil && task.ValidateID(req.Cancel) != nil {
			t.Fatalf("%q asks to cancel %q", content, req.Cancel)
		}
	})
}

// FuzzFile drops any content into a folder: it becomes a task, or is set aside with a
// reason, or waits to be finished, and is never gone.
func FuzzFile(f *testing.F) {
	for _, seed := range []string{`{"id":"a","payload":{"x":1}}`, `{"x":1}`, `{`, ``, `[]`, "\x00", `{"id":"a b"}`, `{"id":null}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		m := newFuzzFolder(t)
		defer m.close()
		temp, err := m.layout.pending.stage("x", content)
		must(t, err)
		must(t, m.layout.pending.publish(temp, "x", "x.json", nil))
		for range 6 {
			m.step()
		}
		m.ledger.endAll()
		m.step()
		places := 0
		for _, at := range []struct {
			d    *dir
			name string
		}{{m.layout.done, "x.json"}, {m.layout.rejected, "x.json"}} {
			there, err := at.d.has(at.name)
			must(t, err)
			if there {
				places++
			}
		}
		_, err = m.layout.rejected.stat("x.error")
		rejected, _ := m.layout.rejected.has("x.json")
		if places != 1 || len(m.ledger.all()) > 1 || rejected != (err == nil) {
			t.Fatalf("%q is in %d places, and there are %d tasks (%v)", content, places, len(m.ledger.all()), err)
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			t.Fatal(err)
		}
	})
}
