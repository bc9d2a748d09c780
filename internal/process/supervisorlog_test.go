package process

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
)

// The log is put aside when it is full, a few old ones are kept, and no line is
// lost between two.
func TestLogIsRotated(t *testing.T) {
	old := logLimit
	logLimit = 1000
	defer func() { logLimit = old }()
	path := filepath.Join(t.TempDir(), "supervisor.log")
	l := openSupervisorLog(path)
	var followed int
	l.follow = func(got string) error {
		followed++
		begin := time.Now() // the names of old ones tell milliseconds apart
		poll(t, "the next moment", func() bool { return time.Since(begin) > 2*time.Millisecond })
		if got != path {
			t.Errorf("standard error goes to %s", got)
		}
		return nil
	}
	const lines = 90 // of 30 bytes: two files are full
	for i := range lines {
		_, err := fmt.Fprintf(l, "line %24d\n", i)
		must(t, err)
	}
	must(t, l.file.Close())
	entries, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
	must(t, err)
	var all string
	for _, name := range entries { // by their names the old ones come first
		b, err := os.ReadFile(name)
		must(t, err)
		if len(b) > 1030 {
			t.Errorf("%s has %d bytes", name, len(b))
		}
		all += string(b)
	}
	if len(entries) != 3 || followed != 2 || strings.Count(all, "\n") != lines {
		t.Errorf("%d lines in %q; followed %d times", strings.Count(all, "\n"), entries, followed)
	}
}

// A supervisor's log is rotated, and its standard error goes along.
func TestSupervisorsLogIsRotated(t *testing.T) {
	t.Setenv(envHasty, "1")
	p := newPlace(t)
	f := supervisorFlags{runtimeDir: p.runtime(), logFile: defaultLog(p.runtime()), idle: time.Minute}
	must(t, startSupervisor(t.Context(), "/proc/self/exe", f))
	h := &supervisorpb.Hello{MinVersion: 1, MaxVersion: 1, QueueId: "q", SpoolDir: []byte("relative/\x00")} // refused with a line
	pid := p.supervisorPid(t)
	poll(t, "a rotation", func() bool {
		if ss, err := openSession(filepath.Join(p.runtime(), socketName), h); err == nil {
			_ = ss.nc.Close()
		}
		logs, err := filepath.Glob(filepath.Join(p.runtime(), "supervisor*.log"))
		must(t, err)
		return len(logs) > 1
	})
	poll(t, "standard error in the new log", func() bool {
		to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/2", pid))
		return err == nil && to == defaultLog(p.runtime())
	})
	must(t, os.Remove(defaultLog(p.runtime()))) // its lines about the refusals are errors, and meant to be
}
