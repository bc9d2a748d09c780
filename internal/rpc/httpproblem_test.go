package rpc

import (
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// TestHTTPStatusOfEveryCode holds that no code of ours is without a status, by the
// way in which a queue refuses.
func TestHTTPStatusOfEveryCode(t *testing.T) {
	for code := task.CodeInternal; !strings.HasPrefix(code.String(), "code("); code++ {
		if httpTable[code] == 0 {
			t.Errorf("%s has no HTTP status", code)
		}
	}
}
