package rpc_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shortDir returns a directory whose path fits a socket's.
func shortDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "rpc") // t.TempDir has the test's long name in its path
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// wantCode says which code an error must have.
func wantCode(tb testing.TB, err error, want task.Code) {
	tb.Helper()
	if err == nil || task.CodeOf(err) != want {
		tb.Fatalf("got error %v (%s), want %s", err, task.CodeOf(err), want)
	}
}

// wantWords says what the message for the user must contain.
func wantWords(tb testing.TB, err error, words string) {
	tb.Helper()
	var e *task.Error
	if !errors.As(err, &e) || !strings.Contains(e.Message, words) {
		tb.Errorf("%v does not say %q", err, words)
	}
}
