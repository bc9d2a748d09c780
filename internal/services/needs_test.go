package services

import (
	"testing"

	"github.com/dspy-agent/dspy-agent/envmgr"
)

// TestOptionalNeed: what a service can do without may be disabled.
func TestOptionalNeed(t *testing.T) {
	t.Parallel()
	for _, optional := range []bool{true, false} {
		m := &making{
			known: map[string]bool{"a": true, "redis": true}, off: map[string]bool{"redis": true},
			all: []envmgr.Definition{{Name: "a", Needs: []envmgr.Need{{Name: "redis", Optional: optional}}}},
		}
		if m.needs(); (len(m.problems) == 0) != optional {
			t.Errorf("optional %v: %v", optional, m.problems)
		}
	}
}
