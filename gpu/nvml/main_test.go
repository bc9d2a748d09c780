//go:build linux && cgo && (amd64 || arm64)

package nvml

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/gputest"
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(gputest.Main(m))
}

// on lets this process see a machine. All tests use one library, because a
// process maps one; others are tried in processes of their own (cmd/gpu-probe).
func on(t *testing.T, config string) (*gputest.Machine, Options) {
	t.Helper()
	m := gputest.New(t, config)
	for _, pair := range m.Env() {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
	return m, Options{Library: gputest.Library(t, gputest.Newest)}
}

// opened returns a Reader on a machine.
func opened(t *testing.T, config string) (*gputest.Machine, *Reader) {
	t.Helper()
	m, o := on(t, config)
	r := New(o)
	t.Cleanup(r.Close)
	return m, r
}
