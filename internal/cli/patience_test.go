package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/app"
	"github.com/dspy-agent/dspy-agent/internal/config"
)

// patient is a session with a clock of its own, at whose socket somebody answers or not.
func patient(errs *bytes.Buffer, served bool) (s *session, clock *time.Time) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s = newSession(Env{Stderr: errs})
	s.now = func() time.Time { return at }
	s.dial = func(context.Context, config.Config, bool) (*client, error) {
		if !served {
			return nil, api.ErrNoDaemon
		}
		return &client{close: func() error { return nil }}, nil
	}
	return s, &at
}

// TestPatience: who has the queue for a moment is waited for, and who keeps it is not.
func TestPatience(t *testing.T) {
	for _, tc := range []struct {
		what           string
		holder         app.Holder
		served         bool
		open, unserved time.Duration // how long is waited to open the queue, and for it to be free
	}{
		{"a command", app.Holder{PID: 5, Command: true}, false, commandPatience, commandPatience},
		{"one that has not said who it is", app.Holder{PID: 5, Nameless: true}, false, commandPatience, commandPatience},
		{"a suspended command", app.Holder{PID: 5, Command: true, Suspended: true}, false, holderPatience, 0},
		{"a drain that leaves", app.Holder{PID: 5}, false, leavePatience, leavePatience},
		{"a drain that serves", app.Holder{PID: 5}, true, holderPatience, 0},
		{"a daemon on another host", app.Holder{PID: 5, Host: "far", Elsewhere: true}, false, 0, 0},
		{"a command on another host", app.Holder{PID: 5, Host: "far", Elsewhere: true, Command: true}, false, holderPatience, 0},
		{"one of whom nothing is known", app.Holder{}, false, holderPatience, holderPatience},
	} {
		for name, want := range map[string]time.Duration{"open": tc.open, "free": tc.unserved} {
			var errs bytes.Buffer
			s, clock := patient(&errs, tc.served)
			began := *clock
			patience := s.patienceWith(t.Context(), config.Config{})
			if name == "free" {
				patience = s.unlessServed(t.Context(), config.Config{})
			}
			cause := errors.New("locked")
			err := s.patiently(t.Context(), patience, func() error {
				*clock = clock.Add(100 * time.Millisecond)
				return &app.BusyError{Holder: tc.holder, Err: cause}
			})
			if took := clock.Sub(began) - 100*time.Millisecond; took != want || !errors.Is(err, cause) {
				t.Errorf("%s, %s: after %s, want %s: %v", tc.what, name, took, want, err)
			}
		}
	}
}

// TestWaitIsSaid: nobody waits for the queue for more than two seconds without a word, and
// a word about one wait is no beginning of another.
func TestWaitIsSaid(t *testing.T) {
	var errs bytes.Buffer
	s, clock := patient(&errs, false)
	said, longest := *clock, time.Duration(0)
	tries := 0
	err := s.patiently(t.Context(), s.patienceWith(t.Context(), config.Config{}), func() error {
		*clock = clock.Add(200 * time.Millisecond)
		if tries++; tries > 100 {
			return nil
		}
		if errs.Len() > 0 {
			longest, said = max(longest, clock.Sub(said)), *clock
			fmt.Fprintln(t.Output(), strings.TrimSpace(errs.String()))
			errs.Reset()
		}
		return &app.BusyError{Holder: app.Holder{PID: 5, Command: true}}
	})
	if err != nil || longest == 0 || max(longest, clock.Sub(said)) > 2*time.Second {
		t.Errorf("silent for %s, and then %s: %v", longest, clock.Sub(said), err)
	}
}

// TestWatchIsSaid: a pipe gets a line now and then, a terminal one that changes and goes.
func TestWatchIsSaid(t *testing.T) {
	far := &app.Owner{Role: "daemon", PID: 7, Host: "far\x1b"}
	tell := func(s *session, clock *time.Time) {
		for _, w := range []struct{ after, left time.Duration }{{0, 15 * time.Second}, {2 * time.Second, 13 * time.Second}, {100 * time.Millisecond, 12900 * time.Millisecond}, {2 * time.Second, 11 * time.Second}} {
			*clock = clock.Add(w.after)
			s.tellWatch(far, w.left)
		}
		s.tellWatch(nil, 0)
		s.err.printf("done\n")
	}
	var errs bytes.Buffer
	s, clock := patient(&errs, false)
	tell(s, clock)
	const want = "note: looking for 15s whether pid 7 (daemon) on host far? still has the queue\nstill looking, for 13s more\nstill looking, for 11s more\ndone\n"
	if got := errs.String(); got != want {
		t.Errorf("a pipe gets\n%s", got)
	}

	term := newTerminal(t, 80, 24)
	s = newSession(Env{Stderr: term.tty, Environ: []string{"TERM=xterm"}})
	s.now = func() time.Time { return *clock }
	tell(s, clock)
	term.await(t, "\r\x1b[Kdone")
	if got := term.text(); !strings.Contains(got, "still looking, for 13s more\r\x1b[Kstill looking, for 11s more\r\x1b[Kdone") {
		t.Errorf("a terminal gets %q", got)
	}
}

// TestCareWaitsForItsTurn: what looks after the queue waits for a command that has it.
func TestCareWaitsForItsTurn(t *testing.T) {
	env, cfg := unattendedWorkspace(t)
	copied := filepath.Join(t.TempDir(), "copy.db")
	for _, args := range []string{"backup " + copied, "verify", "compact", "repair", "restore --force " + copied} {
		leave := occupy(t, cfg, true)
		ended := make(chan string, 1)
		go func() {
			code, out, errs := dspyAgent(t, env, append([]string{"queue"}, strings.Fields(args)...)...)
			ended <- fmt.Sprint(code, out, errs)
		}()
		select {
		case said := <-ended:
			t.Errorf("queue %s did not wait: %s", args, said)
			leave()
			continue
		case <-time.After(100 * time.Millisecond): // long enough for one that does not wait at all
		}
		leave()
		if said := <-ended; !strings.HasPrefix(said, "0") {
			t.Errorf("queue %s: %s", args, said)
		}
	}
}
