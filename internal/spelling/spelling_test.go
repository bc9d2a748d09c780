package spelling_test

import (
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/spelling"
)

func TestNearest(t *testing.T) {
	t.Parallel()
	known := []string{"start", "status", "submit", "ps", "wait"}
	for _, tc := range []struct{ got, want string }{
		{"stauts", "status"}, {"sumbit", "submit"}, {"pss", "ps"}, {"x", ""}, {"kubernetes", ""}, {"wiat", "wait"}, {"", ""},
		{strings.Repeat("a", 1<<20), ""},
	} {
		if n := spelling.Nearest(tc.got, known, 2); n != tc.want {
			t.Errorf("%.20s: got %q, want %q", tc.got, n, tc.want)
		}
	}
}
