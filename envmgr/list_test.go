package envmgr

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/docker"
)

// TestWhoHasThePort: the container that has it is named, else it is a process.
func TestWhoHasThePort(t *testing.T) {
	t.Parallel()
	d := named("redis")
	d.Ports = []Port{{Host: 6379, Container: 6379}}
	other := docker.Listed{ID: "o", Name: "their-redis", Ports: []docker.Published{{Host: 6379, Inside: 1}}}
	udp := docker.Listed{ID: "u", Name: "dns", Ports: []docker.Published{{Host: 6379, UDP: true}}}
	own := docker.Listed{ID: "x", Name: "redis", Ports: other.Ports}
	for says, list := range map[string][]docker.Listed{
		"container their-redis has port 6379": {own, udp, other},
		"a process of its host":               {own, udp},
	} {
		l := &ledger{list: list, fails: map[string]error{"start x": docker.ErrPortTaken}}
		c := desk(t, l, d)
		err := c.perform(t.Context(), d, Start, sighting{box: &Box{ID: "x"}}, ties{})
		if !errors.Is(err, docker.ErrPortTaken) {
			t.Fatalf("it says %v", err)
		}
		if msg := err.Error(); !strings.Contains(msg, says) {
			t.Errorf("it says %q, without %q", msg, says)
		}
	}
}

// TestStrays: containers of this site that nobody defines any more are told, others not.
func TestStrays(t *testing.T) {
	t.Parallel()
	of := func(name, site, service string) docker.Listed {
		return docker.Listed{ID: name, Name: name, Labels: map[string]string{LabelSite: site, LabelService: service}}
	}
	l := &ledger{list: []docker.Listed{of("redis", "s", "redis"), of("old", "s", "mongo"), of("theirs", "t", "mongo"), {Name: "plain"}}}
	c := desk(t, l, named("redis"))
	if _, err := c.list(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := c.snapshot().Strays; !slices.Equal(got, []string{"old"}) {
		t.Errorf("strays: %v", got)
	}
}

// TestEventsOfManyServices: an event is told to whoever might recognise the container.
func TestEventsOfManyServices(t *testing.T) {
	t.Parallel()
	db := named("db")
	db.Container = "redis-1"
	c := desk(t, &ledger{}, named("redis"), db)
	for what, x := range map[string]struct {
		labels map[string]string
		want   []string
	}{
		"ours":                           {map[string]string{LabelSite: "s", LabelService: "redis", "name": "x"}, []string{"redis"}},
		"another site's":                 {map[string]string{LabelSite: "t", LabelService: "redis", "name": "x"}, nil},
		"compose's, with a name of ours": {map[string]string{composeService: "redis", "name": "redis-1"}, []string{"redis", "db"}},
		"compose's, of ours":             {map[string]string{composeService: "web", LabelSite: "s", LabelService: "db"}, []string{"db"}},
		"renamed away":                   {map[string]string{"name": "other", "oldName": "/redis"}, []string{"redis"}},
		"renamed to it":                  {map[string]string{"name": "redis", "oldName": "/other"}, []string{"redis"}},
		"nobody's":                       {map[string]string{"name": "other"}, nil},
	} {
		if got := c.servicesOf(docker.Event{Labels: x.labels}); !slices.Equal(got, x.want) {
			t.Errorf("%s: %v, want %v", what, got, x.want)
		}
	}
}

// lists counts the lists, each of which takes a second.
type lists struct {
	Engine
	began []time.Time
}

func (l *lists) List(ctx context.Context, _ ...string) ([]docker.Listed, error) {
	l.began = append(l.began, time.Now())
	select {
	case <-time.After(time.Second):
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// TestOneListForAll: who asks while a list is under way shares the next one, which begins
// after all of them have asked; one that gives up takes nobody with it.
func TestOneListForAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &lists{}
		s := New(Options{Engine: l, Logger: slog.New(slog.DiscardHandler)})
		ask := func(ctx context.Context, want error) {
			asked := time.Now()
			if _, err := s.list(ctx); !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
			if want == nil && time.Since(asked) < time.Second {
				t.Error("a list from before was handed out")
			}
		}
		go ask(t.Context(), nil)
		synctest.Wait()
		time.Sleep(time.Second / 2)
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go ask(short, context.DeadlineExceeded) // it leads the next, and gives up in its middle
		synctest.Wait()
		for range 100 {
			go ask(t.Context(), nil)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		// The first, the one that was given up, one for whoever of the hundred came first, one for all others.
		if len(l.began) != 4 {
			t.Errorf("%d lists were asked for", len(l.began))
		}
	})
}
