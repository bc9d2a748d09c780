package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/host"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// makeQueue makes what tells a workspace.
func makeQueue(t *testing.T, workspace string) string {
	t.Helper()
	dir := filepath.Join(workspace, "logs", "env_queue")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "CURRENT"), "queue-000001.db\n")
	return dir
}

// TestWorkspaceIsLookedUp: from a subfolder the nearest queue above is meant, the
// tasks run where the person is, and start means it too unless told otherwise.
func TestWorkspaceIsLookedUp(t *testing.T) {
	f, env := startFake(t)
	top := env.Cwd
	makeQueue(t, top)
	env.Cwd = filepath.Join(top, "a", "b")
	if err := os.MkdirAll(env.Cwd, 0o700); err != nil {
		t.Fatal(err)
	}
	expect(t, env, exitDone, "x\n", "", "submit", "--id", "x", "--", "true")
	if dir := f.find("x").GetSpec().GetDir(); dir != env.Cwd {
		t.Errorf("the task runs in %s", dir)
	}
	expect(t, env, exitNotFound, "", "(looked in workspace "+top+"; dspy-agent ps lists what there is)", "show", "nobody")
	expect(t, env, exitDone, "x\n", "", "__complete", "--", "show", "")
	expect(t, env, exitNotFound, "", "there is no queue in workspace "+env.Cwd+"; a daemon of yours runs for "+top+":", "ps", "--workspace", ".")
	daemonScript(t, &env, `echo '{"ok":true,"pid":4711}' >&3`)
	expect(t, env, exitDone, "already running: ", "note: this is the daemon of the folder above, "+top+"; for a queue of this folder's own: dspy-agent start --workspace .\n", "start")
	expect(t, env, exitDone, "started: pid 4711, for workspace "+env.Cwd, "", "start", "--workspace", ".")

	// Not above the home folder, and not where another queue is given.
	home := env
	home.Environ = append(home.Environ, "HOME="+filepath.Join(top, "a"))
	expect(t, home, exitNotFound, "", "workspace "+env.Cwd+"; a daemon", "ps")
	given := env
	given.Environ = append(given.Environ, "ENV_QUEUE_DIR=/nowhere")
	expect(t, given, exitNotFound, "", "workspace "+env.Cwd+"; a daemon", "ps")
}

// TestWhy: the first line is a sentence about the task.
func TestWhy(t *testing.T) {
	for _, tc := range []struct{ state, reason, want string }{
		{"pending", "waiting for its turn behind others like it", "a is waiting for its turn behind others like it."},
		{"pending", "it is the next of its kind and starts within moments", "a is the next of its kind and starts within moments."},
		{"running", "running for 3s on backend process, attempt 1", "a is running for 3s on backend process, attempt 1."},
		{"failed", "failed 3s ago: ended with exit code 3", "a failed 3s ago: ended with exit code 3."},
		{"cancelled", "cancelled 3s ago: typo.", "a was cancelled 3s ago: typo."},
		{"lost", "lost 3s ago: nobody saw it", "a was lost 3s ago: nobody saw it."},
	} {
		if got := whySentence(&pb.TaskInfo{Id: "a", State: tc.state}, tc.reason); got != tc.want {
			t.Errorf("got %s, want %s", got, tc.want)
		}
	}
	_, env := startFake(t)
	expect(t, env, exitDone, "a\n", "", "submit", "--id", "a", "--name", "the first", "--", "sleep")
	expect(t, env, exitDone, "a is running for 3s on backend process.\n\nname       the first\nstate      running\nclass      cpu_short\nsubmitted  ", "", "why", "a")
	expect(t, env, exitDone, `"reason":"running for 3s on backend process"`, "", "why", "a", "--json")
	expect(t, env, exitDone, "\nstate      running\nwhy        running for 3s on backend process\n", "", "show", "a")
}

// TestOwnerThatSaysNothing: a damaged owner.json is told as that, and whoever has the
// queue open is named.
func TestOwnerThatSaysNothing(t *testing.T) {
	for _, text := range []string{"", "{", `{"pid":`, "\x00\xff garbage \x1b[2K", "[]", `{"pid": -3, "boot_id": "x"}`, `{"pid": "12"}`, `{"host": "x"}`, "null"} {
		env := testEnv(t)
		dir := makeQueue(t, env.Cwd)
		write(t, filepath.Join(dir, "owner.json"), text)
		expect(t, env, exitDone, "no daemon runs for workspace", filepath.Join(dir, "owner.json")+" does not tell who owns the queue", "stop")
		// What a command would open by itself is not there either.
		expect(t, env, exitFailed, "", "names queue-000001.db, which is not there", "ps")

		db := filepath.Join(dir, "queue-000001.db")
		write(t, db, "")
		f, err := os.Open(db)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		_, _, errs := dspyAgent(t, env, "stop")
		if !strings.Contains(errs, "has the queue open and cannot be reached; kill ") || !strings.Contains(errs, "ends it as stop would have") {
			t.Errorf("%q: got %q", text, errs)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOwnerThatIsGone: an owner.json that a daemon left when it died misleads nobody:
// not about whether one runs, and not about who has the queue open since.
func TestOwnerThatIsGone(t *testing.T) {
	here, err := host.Self()
	if err != nil {
		t.Fatal(err)
	}
	stale := fmt.Sprintf(`{"pid": %d, "start_ticks": 1, "boot_id": "%s"}`, here.PID, here.Boot)
	for _, text := range []string{stale, ""} {
		env := testEnv(t)
		dir := makeQueue(t, env.Cwd)
		if text != "" {
			write(t, filepath.Join(dir, "owner.json"), text)
		}
		expect(t, env, exitDone, "no daemon runs for workspace", "", "stop")

		db := filepath.Join(dir, "queue-000001.db")
		write(t, db, "")
		lock, err := host.Lock(db)
		if err != nil {
			t.Fatal(err)
		}
		code, _, errs := dspyAgent(t, env, "stop")
		if want := fmt.Sprintf("Process %d has the queue open and cannot be reached", here.PID); code != exitFailed || !strings.Contains(errs, want) {
			t.Errorf("%q: stop ended with %d: %q", text, code, errs)
		}
		if err := lock.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
