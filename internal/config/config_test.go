package config_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

func TestLoad(t *testing.T) {
	t.Parallel()
	ws := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(ws, link); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"ENV_QUEUE_DIR": "q", "XDG_RUNTIME_DIR": "/run/x"}
	c, err := config.Load(config.Given{WorkspaceFlag: link, Cwd: "/", Lookup: func(k string) string { return env[k] }})
	if err != nil {
		t.Fatal(err)
	}
	if c.Workspace != ws || c.QueueDir != filepath.Join(ws, "q") || c.RuntimeDir != "/run/x" {
		t.Errorf("got %+v; a link is the folder itself, and ENV_QUEUE_DIR is resolved against it", c)
	}
	env["XDG_RUNTIME_DIR"] = "here"
	if _, err := config.Load(config.Given{Cwd: "/", Lookup: func(k string) string { return env[k] }}); task.CodeOf(err) != task.CodeInvalid {
		t.Errorf("a relative XDG_RUNTIME_DIR: %v", err)
	}
}

func TestClass(t *testing.T) {
	t.Parallel()
	c := config.Default("/w")
	for name, want := range map[string]string{"": config.ClassCPUShort, "cpu_long": "cpu_long", "gpu": config.ClassGPULong} {
		if k, err := c.Class(name); err != nil || k.Name != want {
			t.Errorf("class %q is %q, %v; want %q", name, k.Name, err, want)
		}
	}
	_, err := c.Class("cpu-short")
	if want := `unknown class "cpu-short"; known are cpu_short, cpu_long, gpu_short, gpu_long, gpu, gpu_slurm`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestMachine(t *testing.T) {
	t.Parallel()
	if n := config.MachineCPUs(); n < 1 {
		t.Errorf("%d CPUs", n)
	}
	if n := config.MachineMemory(); n < 64<<20 {
		t.Errorf("%d bytes of memory", n)
	}
}
