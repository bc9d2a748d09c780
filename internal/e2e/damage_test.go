package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDatabaseIsCutShort takes the database away under a daemon. It leaves in order,
// with one message, and its tasks go on. What the message says to do works: the
// database is put back and all is as it was, or the folder is moved away and there is
// a new queue.
func TestDatabaseIsCutShort(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int64{"to nothing": 0, "to its first pages": 8192} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, binaries.plain)
			w.mustStart()
			pidFile, gate := filepath.Join(w.workspace, "pid"), filepath.Join(w.workspace, "gate")
			w.submit(submission("a", `echo $$ > `+pidFile+`; while [ ! -e `+gate+` ]; do sleep 0.02; done`))
			pid := w.pidFrom(pidFile)
			w.eventually(time.Minute, "the task to be running", func() bool { return w.task("a").GetState() == "running" })
			db := filepath.Join(w.queueDir, "queue-000001.db")
			whole, err := os.ReadFile(db)
			if err != nil {
				t.Fatal(err)
			}
			w.cutShort(db, size)
			if !alive(pid) {
				t.Fatal("the task ended with the daemon")
			}
			w.wants(w.dspy("start"), exitFailed, "could not start", db+" is damaged", "copy of "+w.queueDir, "backup", "begin anew")
			w.wants(w.dspy("stop"), exitDone)

			if err := os.WriteFile(db, whole, 0o600); err != nil {
				t.Fatal(err)
			}
			w.mustStart()
			if info := w.task("a"); info.GetState() != "running" || info.GetAttempt() != 1 {
				t.Errorf("a is %s, attempt %d", info.GetState(), info.GetAttempt())
			}
			w.cutShort(db, size)
			if err := os.Rename(w.queueDir, w.queueDir+".damaged"); err != nil {
				t.Fatal(err)
			}
			w.mustStart()
			w.dspyOK("submit", "--id", "b", "--wait", "--", "true")
			if out := w.dspyOK("ps"); strings.Contains(out, "a") && strings.Contains(out, gate) {
				t.Errorf("the new queue has tasks of the old one:\n%s", out)
			}
			if !alive(pid) {
				t.Error("the task ended with its queue")
			}
			if err := os.WriteFile(gate, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			w.eventually(time.Minute, "the end of the program", func() bool { return !alive(pid) })
		})
	}
}

// cutShort makes the database shorter and sees how the daemon leaves.
func (w *world) cutShort(db string, size int64) {
	w.Helper()
	output := filepath.Join(w.runtime, "daemon.out")
	if err := os.Truncate(output, 0); err != nil {
		w.Fatal(err)
	}
	if err := os.Truncate(db, size); err != nil {
		w.Fatal(err)
	}
	// Somebody looks, and is told; or the daemon has met it before.
	if a := w.dspy("ps"); a.code == exitDone {
		w.Errorf("tasks are listed out of a database that is not there:\n%s", a.out)
	}
	d := w.daemon()
	select {
	case <-d.dead:
	case <-time.After(30 * time.Second):
		w.Fatal("the daemon stays although its database is damaged")
	}
	if code := d.cmd.ProcessState.ExitCode(); code != 1 {
		w.Errorf("the daemon ended with %d", code)
	}
	said, err := os.ReadFile(output)
	if err != nil {
		w.Fatal(err)
	}
	if bytes.Count(said, []byte("\n")) != 1 || !bytes.Contains(said, []byte(db+" is damaged")) {
		w.Errorf("the daemon's last words are not one clear line:\n%s", said)
	}
	if exists(filepath.Join(w.queueDir, "owner.json")) {
		w.Error("a daemon that is gone is still the owner of the queue")
	}
}
