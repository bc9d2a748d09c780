package access_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/access"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// TestNothingIsSentToStrangers dials servers of another user, one that accepts and
// one that lets us wait in line.
func TestNothingIsSentToStrangers(t *testing.T) {
	for _, method := range methods {
		for _, how := range []string{"accept", "hold"} {
			t.Run(method+" "+how, func(t *testing.T) {
				d := access.Dialer{UID: serverUID(t), Owners: ownersBy(t, method)}
				foreign := started(t, stranger(t, "listen", how))
				for range 20 {
					conn, err := d.DialContext(t.Context(), "tcp", foreign.first)
					if err == nil {
						_ = conn.Close()
					}
					if !errors.Is(err, access.ErrForeignServer) || task.CodeOf(err) != task.CodeConflict {
						t.Fatalf("got %v, want a refusal", err)
					}
					if text := err.Error(); !strings.Contains(text, foreign.first) || !strings.Contains(text, access.Peer{UID: strangerUID(t)}.String()) {
						t.Errorf("%q does not name the address and who has it", text)
					}
				}
				if heard := foreign.stop(); heard != `heard ""` {
					t.Errorf("the stranger %s", heard)
				}
			})
		}
	}
}

// TestDialOurs reaches a server of ours, before and after it accepts.
func TestDialOurs(t *testing.T) {
	bothWays(t, func(t *testing.T, owners *access.Owners, lis net.Listener) {
		d := access.Dialer{UID: ourUID(), Owners: owners}
		early, err := d.DialContext(t.Context(), "tcp", lis.Addr().String())
		if err != nil {
			t.Fatalf("while nobody accepts: %v", err)
		}
		defer func() { _ = early.Close() }()
		rec := record(lis)
		defer rec.close()
		c, err := d.Dial(t.Context(), lis.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if _, err := io.ReadFull(c, make([]byte, 8)); err != nil {
			t.Error(err)
		}
	})
}

// TestDialByOtherNames is for addresses as they are given to servers.
func TestDialByOtherNames(t *testing.T) {
	d := access.Dialer{UID: ourUID(), Owners: ownersBy(t, access.ByNetlink)}
	for network, addr := range loopbacks {
		lis := listening(t, network, addr)
		_, port, err := net.SplitHostPort(lis.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		for _, host := range []string{"", "localhost", "0.0.0.0", "[::]"} {
			c, err := d.DialContext(t.Context(), "tcp", host+":"+port)
			if err != nil {
				t.Errorf("%s:%s, listening at %s: %v", host, port, addr, err)
				continue
			}
			_ = c.Close()
		}
	}
}

func TestDialRefuses(t *testing.T) {
	lis := listening(t, "tcp4", "127.0.0.1:0")
	free := lis.Addr().String()
	_ = lis.Close()
	owners := ownersBy(t, access.ByNetlink)
	for addr, code := range map[string]task.Code{
		"192.0.2.1:50052":   task.CodeInvalid, // not dialled, or this would take minutes
		"login1:50052":      task.CodeInvalid,
		"127.0.0.1":         task.CodeInvalid,
		"127.0.0.1:service": task.CodeInvalid,
		free:                task.CodeUnavailable,
	} {
		d := access.Dialer{UID: ourUID(), Owners: owners}
		if _, err := d.DialContext(t.Context(), "tcp", addr); task.CodeOf(err) != code || err == nil {
			t.Errorf("%s: %v, want the code %s", addr, err, code)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (&access.Dialer{UID: ourUID(), Owners: owners}).DialContext(ended, "tcp", free); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

// TestDialWithoutLookup sends nothing when it cannot be known to whom.
func TestDialWithoutLookup(t *testing.T) {
	lis := listening(t, "tcp4", "127.0.0.1:0")
	owners := ownersBy(t, access.ByNetlink)
	if err := owners.BreakForGood(); err != nil {
		t.Fatal(err)
	}
	d := access.Dialer{UID: ourUID(), Owners: owners}
	if _, err := d.DialContext(t.Context(), "tcp", lis.Addr().String()); !errors.Is(err, access.ErrLookup) {
		t.Errorf("got %v, want that it cannot be looked up", err)
	}
}
