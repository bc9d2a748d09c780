package envmgr

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/envmgr/probe"
)

func named(name string, needs ...string) Definition {
	d := Definition{Name: name, Image: name + ":1", Ready: probe.Spec{Kind: probe.None}}
	for _, n := range needs {
		d.Needs = append(d.Needs, Need{Name: n})
	}
	return d
}

// TestOrder: what is needed comes first, and the closures are those of the graph.
func TestOrder(t *testing.T) {
	t.Parallel()
	s, err := NewSet([]Definition{named("router", "a", "b"), named("a", "redis"), named("b", "redis"), named("redis"), named("alone")})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(s.Names(), " "); got != "redis a b router alone" {
		t.Errorf("the order is %s", got)
	}
	if got := strings.Join(s.With([]string{"a"}), " "); got != "redis a" {
		t.Errorf("with a: %s", got)
	}
	if got := strings.Join(s.UsersOfAll([]string{"redis"}), " "); got != "a b router" {
		t.Errorf("users of redis: %s", got)
	}
	if got := s.Users("redis"); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("users of redis: %s", got)
	}
}

// TestBadSets: each is refused, with the names that are meant.
func TestBadSets(t *testing.T) {
	t.Parallel()
	twoPorts := func(name string) Definition {
		d := named(name)
		d.Ports = []Port{{Host: 80, Container: 80}}
		return d
	}
	for what, c := range map[string]struct {
		all  []Definition
		kind error
		says string
	}{
		"circle":        {[]Definition{named("a", "b"), named("b", "c"), named("c", "a")}, ErrCycle, "a needs b needs c needs a"},
		"itself":        {[]Definition{named("a", "a")}, ErrDefinition, "it needs itself"},
		"unknown":       {[]Definition{named("a", "redsi"), named("redis")}, ErrUnknownService, `a needs "redsi"; there are a, redis`},
		"twice":         {[]Definition{named("a"), named("a")}, ErrDefinition, "two named a"},
		"the same port": {[]Definition{twoPorts("a"), twoPorts("b")}, ErrDefinition, "a and b both want port 80"},
		"one container": {[]Definition{named("a"), {Name: "b", Container: "a", Image: "b", Ready: probe.Spec{Kind: probe.None}}}, ErrDefinition, "a and b would both be container a"},
		"bad name":      {[]Definition{named("../a")}, ErrDefinition, "its name is to be made of"},
		"no image":      {[]Definition{{Name: "a", Ready: probe.Spec{Kind: probe.None}}}, ErrDefinition, "no image"},
	} {
		_, err := NewSet(c.all)
		if !errors.Is(err, c.kind) {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if msg := err.Error(); !strings.Contains(msg, c.says) {
			t.Errorf("%s: it says %q, without %q", what, msg, c.says)
		}
	}
}

// TestPortsOfThisHost: two services may have one port where their addresses differ.
func TestPortsOfThisHost(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		one, other string
		ok         bool
	}{{"", "", false}, {"", "127.0.0.1", false}, {"127.0.0.1", "127.0.0.2", true}, {"0.0.0.0", "127.0.0.2", false}, {"127.0.0.2", "::", false}} {
		var all []Definition
		for name, address := range map[string]string{"a": c.one, "b": c.other} {
			all = append(all, Definition{Name: name, Image: "i", Ready: probe.Spec{Kind: probe.None}, Ports: []Port{{Address: address, Host: 80, Container: 80}}})
		}
		if _, err := NewSet(all); (err == nil) != c.ok {
			t.Errorf("%q and %q: %v", c.one, c.other, err)
		}
	}
}
