package gputest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Machine is what the fake library pretends, in files of a test.
type Machine struct {
	t   testing.TB
	dir string
}

// New returns a machine with this configuration (gpu/nvml/testdata/fake/config.c
// has the keys).
func New(t testing.TB, config string) *Machine {
	t.Helper()
	m := &Machine{t: t, dir: t.TempDir()}
	m.Set(config)
	return m
}

// GPUs is a configuration of n GPUs that differ in nothing but who they are.
func GPUs(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "[gpu %d]\n", i)
	}
	return b.String()
}

// UUID is the identity of the i-th GPU, unless its configuration says another.
func UUID(i int) string { return fmt.Sprintf("GPU-00000000-0000-0000-0000-%012d", i) }

// Set replaces the configuration: the library's next call sees it.
func (m *Machine) Set(config string) {
	m.t.Helper()
	path := m.config()
	if err := os.WriteFile(path+".new", []byte(config), 0o600); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		m.t.Fatal(err)
	}
}

// Event lets the driver tell of something, as fake.c says how.
func (m *Machine) Event(line string) {
	m.t.Helper()
	f, err := os.OpenFile(m.config()+".events", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		m.t.Fatal(err)
	}
	if _, err := fmt.Fprintln(f, line); err != nil {
		m.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		m.t.Fatal(err)
	}
}

// Env are the variables that a program needs to see this machine.
func (m *Machine) Env() []string {
	return []string{"FAKE_NVML_CONFIG=" + m.config(), "FAKE_NVML_LOG=" + m.log()}
}

// Calls are the functions that were called, in order.
func (m *Machine) Calls() []string {
	m.t.Helper()
	return m.column(1)
}

// Callers are the processes that called, in order, each as often as it did.
func (m *Machine) Callers() []string {
	m.t.Helper()
	return m.column(0)
}

func (m *Machine) column(i int) []string {
	m.t.Helper()
	text, err := os.ReadFile(m.log())
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		m.t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 3 {
			out = append(out, fields[i])
		}
	}
	return out
}

func (m *Machine) config() string { return filepath.Join(m.dir, "machine.ini") }
func (m *Machine) log() string    { return filepath.Join(m.dir, "calls.log") }
