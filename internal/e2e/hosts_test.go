package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/dropfolder"
)

// otherHost is another host that sees the same folders: with a boot, a machine id, a
// name and processes of its own. It shares this kernel, so that locks work between the
// two; internal tests of the queue have hosts whose locks do not.
type otherHost struct {
	*world
	name, boot, machine, runtime string
}

func (w *world) otherHost(name string) *otherHost {
	w.Helper()
	if os.Getuid() != 0 {
		w.Skip("making up a host takes namespaces, and those root: run the tests as root")
	}
	h := &otherHost{
		world: w, name: name, runtime: filepath.Join(filepath.Dir(w.runtime), name),
		boot: filepath.Join(filepath.Dir(w.runtime), name+".boot"), machine: filepath.Join(filepath.Dir(w.runtime), name+".machine"),
	}
	if err := os.Mkdir(h.runtime, 0o700); err != nil {
		w.Fatal(err)
	}
	for path, id := range map[string]string{h.boot: "11111111-2222-4333-8444-555555555555\n", h.machine: strings.Repeat("0f", 16) + "\n"} {
		if err := os.WriteFile(path, []byte(id), 0o600); err != nil {
			w.Fatal(err)
		}
	}
	return h
}

// onOtherHost sets the place up and becomes the command. A machine without an id has
// nothing to bind over, and is then told by its name.
const onOtherHost = `set -e
mount --bind "$1" /proc/sys/kernel/random/boot_id
if [ -e /etc/machine-id ]; then mount --bind "$2" /etc/machine-id; fi
hostname "$3"
shift 3
exec "$@"`

// dspy runs a command there.
func (h *otherHost) dspy(args ...string) answered {
	h.Helper()
	line := append([]string{"-mupf", "--mount-proc", "sh", "-c", onOtherHost, "sh", h.boot, h.machine, h.name, filepath.Join(h.bin, "dspy-agent")}, args...)
	cmd := exec.Command("unshare", line...)
	cmd.Env = append(append([]string{}, h.env...), "XDG_RUNTIME_DIR="+h.runtime)
	cmd.Dir = h.workspace
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run() // its exit code tells
	return answered{what: fmt.Sprintf("on %s: %.120q", h.name, args), out: out.String(), err: errs.String(), code: cmd.ProcessState.ExitCode()}
}

// A queue that is owned on one host, seen from another one: who asks is told where it
// is, what is asked for reaches the owner through the drop folder, and nobody is a
// second owner before somebody says so.
func TestTwoHosts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, binaries.plain)
	far := w.otherHost("far")
	w.mustStart()
	here, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}

	w.wants(far.dspy("ps"), exitNoDaemon, "on host "+here)
	w.wants(far.dspy("start"), exitNoDaemon, "on host "+here)
	drained := far.dspy("drain")
	w.wants(drained, exitDone)
	if !strings.Contains(drained.out, "on host "+here) {
		t.Errorf("a drain does not say who does it: %q", drained.out)
	}

	// A submission with all that a command line can say.
	w.dspyOK("submit", "--id", "first", "--", "true")
	sent := far.dspy("submit", "--id", "sent", "--after", "first", "--retries", "1", "--env", "A=b c", "--",
		"sh", "-c", `[ "$DSPY_TASK_ATTEMPT" = 2 ] && echo "$A"`)
	w.wants(sent, exitDone, "on host "+here, "drop folder")
	if sent.out != "sent\n" {
		t.Errorf("submit printed %q", sent.out)
	}
	w.eventually(30*time.Second, "the task is accepted", func() bool { return w.dspy("show", "sent").code == exitDone })
	w.dspyOK("wait", "sent")
	if got := w.dspyOK("logs", "sent"); got != "b c\n" {
		t.Errorf("it printed %q", got)
	}

	// A cancel.
	w.dspyOK("submit", "--id", "long", "--", "sleep", "600")
	w.wants(far.dspy("cancel", "long", "--reason", "not needed"), exitDone)
	w.eventually(30*time.Second, "the task is cancelled", func() bool { return w.dspy("wait", "long").code == exitCancelled })

	// The owner is gone, and from the other host nobody can tell. It is followed after a
	// while without a sign of life, with a copy of the database.
	w.killDaemon()
	if _, err := dropfolder.Put(w.queueDir, dropfolder.File{ID: "late", Payload: []byte(`{"command": "hostname"}`)}); err != nil {
		t.Fatal(err)
	}
	taken := far.dspy("drain", "--take-over", "--for", "2m")
	w.wants(taken, exitDone)
	if !strings.Contains(taken.out, "1 succeeded") {
		t.Errorf("the drain that took over says %q, %q", taken.out, taken.err)
	}
	// It left in order, so that this host has the queue again without a word.
	w.mustStart()
	w.dspyOK("wait", "late")
	if got := w.dspyOK("logs", "late"); got != "far\n" {
		t.Errorf("the task that was left for the owner ran on %q", got)
	}
	w.checkOwnersOf(t)
}

// checkOwnersOf ends the daemon and looks at who wrote what.
func (w *world) checkOwnersOf(t *testing.T) {
	t.Helper()
	w.endDaemon()
	w.checkOwners()
}
