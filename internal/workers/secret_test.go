package workers

import (
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/lease"
)

// TestAdmit: the secret of a worker is good until some minutes after its job's end, and no
// longer than the worker and its job are there.
func TestAdmit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		door := Door{Addr: "login:7000", Cert: "pem"}
		var now atomic.Pointer[Door]
		now.Store(&door)
		f := newFixture(t, Options{Door: func() (Door, bool) { return *now.Load(), true }})
		defer f.watch()()
		until := time.Now().Add(time.Hour)
		w, other := f.worker("some", lease.Card{Until: until}), f.worker("other", lease.Card{})
		time.Sleep(2 * time.Second)
		s, err := ReadSecret(w)
		if info, err2 := os.Stat(w.Secret()); err != nil || err2 != nil || info.Mode().Perm() != 0o600 || s.Door != door || !s.Until.Equal(until.Add(afterJob)) {
			t.Fatalf("%+v, %v, %v", s, err, err2)
		}
		admitted := func(what, word, want string) {
			t.Helper()
			if id, ok := f.Admit(word); ok != (want != "") || ok && id != want {
				t.Errorf("%s: %q, %t", what, id, ok)
			}
		}
		admitted("its word", s.Word, w.ID())
		admitted("another word", s.Word+"x", "")
		admitted("none", "", "")
		moved := Door{Addr: "login:8000", Cert: "pem"}
		now.Store(&moved)
		time.Sleep(2 * time.Second)
		if again, err := ReadSecret(w); err != nil || again.Word != s.Word || again.Door != moved {
			t.Errorf("at another door: %+v, %v", again, err)
		}
		for _, id := range []lease.Folder{w, other} {
			f.extend(id)
		}
		for time.Until(until.Add(afterJob)) > time.Second {
			f.extend(w)
			f.extend(other)
			time.Sleep(min(time.Minute, time.Until(until.Add(afterJob))-time.Second))
		}
		admitted("just before its time is over", s.Word, w.ID())
		time.Sleep(2 * time.Second)
		admitted("afterwards", s.Word, "")
		o, err := ReadSecret(other)
		if err != nil {
			t.Fatal(err)
		}
		admitted("one without an end", o.Word, other.ID())
		f.Backend.mu.Lock()
		f.members[other.ID()].jobGone = true
		f.Backend.mu.Unlock()
		admitted("one whose job is gone", o.Word, "")
	})
}
