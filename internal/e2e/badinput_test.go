package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// stranger is a uid that is nobody's.
const stranger = 54321

// TestBadSubmissions: what cannot be accepted is refused with the reason, by the
// command line and by the wire, and leaves nothing behind.
func TestBadSubmissions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, binaries.plain)
	w.mustStart()
	big := filepath.Join(w.runtime, "big.json")
	if err := os.WriteFile(big, []byte(`{"x":"`+strings.Repeat("x", 10<<20)+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"submit"}
	for i := range 6 {
		env = append(env, "--env", fmt.Sprintf("BIG%d=%s", i, strings.Repeat("x", 100<<10)))
	}
	for _, c := range []struct {
		args  []string
		stdin string
		code  int
		words []string
	}{
		{[]string{"submit", "--id", "../x", "--", "true"}, "", exitUsage, []string{`"../x"`, "letter"}},
		{[]string{"submit", "--id", "a b", "--", "true"}, "", exitUsage, []string{`"a b"`, "not allowed"}},
		{[]string{"submit", "--id", strings.Repeat("x", 300), "--", "true"}, "", exitUsage, []string{"300", "200"}},
		{[]string{"submit"}, "", exitUsage, []string{"submit"}},
		{[]string{"submit", "--"}, "", exitUsage, []string{"submit"}},
		{[]string{"submit", "--", ""}, "", exitRefused, []string{"first word", "empty"}},
		{[]string{"submit", "--payload", "@" + big, "--", "true"}, "", exitUsage, []string{"payload", "4194304", "file"}},
		{[]string{"submit", "--payload", "[1]", "--", "true"}, "", exitUsage, []string{"payload", "JSON object"}},
		{[]string{"submit", "--payload", "@/no/such/file", "--", "true"}, "", exitUsage, []string{"/no/such/file"}},
		{append(env, "--", "true"), "", exitRefused, []string{"environment", "524288"}},
		{[]string{"submit", "--env", "DSPY_TASK_ID=x", "--", "true"}, "", exitRefused, []string{"DSPY_TASK_ID", "scheduler"}},
		{[]string{"submit", "--class", "quantum", "--", "true"}, "", exitUsage, []string{"quantum", "cpu_short"}},
		{[]string{"submit", "--class", "gpu_short", "--", "true"}, "", exitRefused, []string{"needs 1 GPU, and "}},
		{[]string{"submit", "--after", "nobody", "--", "true"}, "", exitRefused, []string{"nobody"}},
		{[]string{"submit", "--id", "me", "--after", "me", "--", "true"}, "", exitRefused, []string{"me", "itself"}},
		{[]string{"submit", "--retries", "-1", "--", "true"}, "", exitUsage, []string{"retries"}},
		{[]string{"submit", "--timeout", "soon", "--", "true"}, "", exitUsage, []string{"timeout", "soon"}},
		{[]string{"submit", "--from-file", "-"}, `{"id":"n","argv":["a\u0000b"]}` + "\n", exitUsage, []string{"NUL"}},
		{[]string{"submit", "--from-file", "-"}, "{\n", exitUsage, []string{"line 1"}},
		{[]string{"show", "nobody"}, "", exitNotFound, []string{"nobody"}},
		{[]string{"show", "../x"}, "", exitRefused, []string{"../x"}},
		{[]string{"cancel", "nobody"}, "", exitNotFound, []string{"nobody"}},
		{[]string{"sumbit"}, "", exitUsage, []string{"sumbit", "submit"}},
	} {
		w.wants(w.run(call{args: c.args, stdin: c.stdin}), c.code, c.words...)
	}
	for name, change := range map[string]func(*pb.SubmitTaskRequest){
		"NUL":   func(r *pb.SubmitTaskRequest) { r.Spec.Argv = []string{"sh", "-c", "a\x00b"} },
		"empty": func(r *pb.SubmitTaskRequest) { r.Spec.Argv = []string{} },
		"blank": func(r *pb.SubmitTaskRequest) { r.Spec.Argv = []string{""} },
		"id":    func(r *pb.SubmitTaskRequest) { r.Id = "a/../../b" },
		"dir":   func(r *pb.SubmitTaskRequest) { r.Spec.Dir = "relative" },
		"env":   func(r *pb.SubmitTaskRequest) { r.Spec.Env = []string{"NOVALUE"} },
		"words": func(r *pb.SubmitTaskRequest) { r.Spec.Argv = make([]string, task.MaxArgs+1); r.Spec.Argv[0] = "x" },
	} {
		got, err := w.client().SubmitTask(context.Background(), submission("wire-"+name, "true", change))
		if err == nil && got.GetSuccess() {
			t.Errorf("%s was accepted", name)
		} else if err == nil && got.GetError() == "" {
			t.Errorf("%s was refused without a reason", name)
		}
	}
	if all := w.all(); len(all) != 0 {
		t.Errorf("%d tasks are in the queue", len(all))
	}
}

// TestProgramThatCannotRun: accepted, since only the machine where it runs can
// know, and then said clearly.
func TestProgramThatCannotRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, binaries.plain)
	w.mustStart()
	plain := filepath.Join(w.workspace, "plain.txt")
	if err := os.WriteFile(plain, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	gone := filepath.Join(w.workspace, "gone")
	if err := os.Mkdir(gone, 0o700); err != nil {
		t.Fatal(err)
	}
	w.submit(submission("gate", `while [ -e `+gone+` ]; do sleep 0.01; done`))
	w.dspyOK("submit", "--id", "folder", "--after", "gate", "--workdir", gone, "--", "true")
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	for id, c := range map[string]struct {
		args  []string
		code  int
		words []string
	}{
		"folder":  {nil, -1, []string{gone}},
		"program": {[]string{"no-such-program-anywhere"}, 127, []string{"no-such-program-anywhere"}},
		"text":    {[]string{plain}, 126, []string{plain}},
		"dir":     {[]string{"/usr"}, 126, []string{"/usr"}},
	} {
		if c.args != nil {
			w.dspyOK(append([]string{"submit", "--id", id, "--"}, c.args...)...)
		}
		info := w.await(id)
		msg := info.GetOutcome().GetMessage()
		if info.GetState() != "failed" || msg == "" {
			t.Errorf("%s: %s, %q", id, info.GetState(), msg)
		}
		for _, word := range c.words {
			if !strings.Contains(msg, word) {
				t.Errorf("%s: %q lacks %q", id, msg, word)
			}
		}
		if got := w.dspy("wait", id); c.code >= 0 && got.code != c.code {
			t.Errorf("%s: wait ends with %d, want %d", id, got.code, c.code)
		}
	}
}

// smallDisk mounts a file system of a few megabytes over a folder.
func smallDisk(t *testing.T, dir string, megabytes int) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes)); err != nil {
		if errors.Is(err, syscall.EPERM) {
			t.Skip("mounting a small file system needs CAP_SYS_ADMIN")
		}
		t.Fatal(err)
	}
}

// TestDiskFull: submissions are refused and say why; a task that runs ends, and
// its end is known once there is space again.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	w := newWorld(t, binaries.plain)
	smallDisk(t, w.workspace, 16)
	unmount := func() {
		if err := syscall.Unmount(w.workspace, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(unmount) // before the world is torn down: it would remove the mount point
	w.mustStart()
	gate, done := filepath.Join(w.runtime, "gate"), filepath.Join(w.runtime, "done")
	w.submit(submission("runs", `while [ ! -e `+gate+` ]; do sleep 0.02; done; echo > `+done))
	w.eventually(time.Minute, "the task runs", func() bool { return w.task("runs").GetState() == "running" })
	ballast := filepath.Join(w.workspace, "ballast")
	fill(t, ballast)
	accepted, refused := 0, answered{}
	payload := `{"x":"` + strings.Repeat("x", 60<<10) + `"}`
	for i := range 1000 {
		refused = w.dspy("submit", "--id", "fill-"+strconv.Itoa(i), "--after", "runs", "--payload", payload, "--", "true")
		if refused.code != exitDone {
			break
		}
		accepted++
	}
	w.wants(refused, exitRefused, "disk is full", w.queueDir, "free some space")
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.eventually(time.Minute, "the program ends", func() bool { return exists(done) })
	w.dspyOK("status") // it can still be asked
	w.dspyOK("ps")
	if state := w.task("runs").GetState(); state != "running" && state != "succeeded" {
		t.Errorf("the task is %s", state)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if info := w.await("runs"); info.GetState() != "succeeded" {
		t.Errorf("it %s: %s", info.GetState(), info.GetOutcome().GetMessage())
	}
	w.dspyOK("submit", "--id", "next", "--wait", "--", "true")
	all := w.settle(time.Minute)
	if len(all) != accepted+2 {
		t.Errorf("%d tasks are known, %d were accepted", len(all), accepted+2)
	}
	for id, info := range all {
		if info.GetState() != "succeeded" {
			t.Errorf("%s %s: %s", id, info.GetState(), info.GetOutcome().GetMessage())
		}
	}
	w.tearDown() // or the mount is busy
}

// fill writes until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size >= 512; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
}

// giveTo makes everything of the world another user's.
func (w *world) giveTo(t *testing.T, uid int) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("acting as another user needs root")
	}
	for _, d := range []string{filepath.Dir(w.workspace), w.workspace, w.runtime} {
		if err := os.Chown(d, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
}

// startAs runs "dspy-agent start" as a user.
func (w *world) startAs(uid int) answered {
	w.Helper()
	return w.run(call{args: []string{"start"}, uid: uid})
}

// TestReadOnlyQueue: a queue that may not be written is said to be so, with its
// path. Root may write everything, so somebody else tries.
func TestReadOnlyQueue(t *testing.T) {
	t.Parallel()
	for name, lock := range map[string]func(w *world) (string, error){
		"folder": func(w *world) (string, error) { return w.queueDir, os.Chmod(w.queueDir, 0o500) },
		"database": func(w *world) (string, error) {
			return w.queueDir, os.Chmod(filepath.Join(w.queueDir, "queue-000001.db"), 0o400)
		},
		"workspace": func(w *world) (string, error) {
			return w.workspace, errors.Join(os.RemoveAll(filepath.Join(w.workspace, "logs")), os.Chmod(w.workspace, 0o500))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, binaries.plain)
			w.giveTo(t, stranger)
			if a := w.startAs(stranger); a.code != exitDone {
				t.Fatalf("start: %s%s", a.out, a.err)
			}
			if a := w.run(call{args: []string{"stop"}, uid: stranger}); a.code != exitDone {
				t.Fatalf("stop: %s%s", a.out, a.err)
			}
			path, err := lock(w)
			if err != nil {
				t.Fatal(err)
			}
			a := w.startAs(stranger)
			if a.code != exitNoDaemon && a.code != exitRefused {
				t.Errorf("exit code %d", a.code)
			}
			w.wants(a, a.code, path, "permission denied")
		})
	}
}

// TestSecondDaemon: one queue has one owner, and the message names it.
func TestSecondDaemon(t *testing.T) {
	t.Parallel()
	w := newWorld(t, binaries.plain)
	w.mustStart()
	first := w.daemon()
	pid := fmt.Sprintf("pid %d", first.cmd.Process.Pid)
	if a := w.dspy("start"); a.code != exitDone || !strings.Contains(a.out, "already running") || !strings.Contains(a.out, pid) {
		t.Errorf("start beside it: %d %s%s", a.code, a.out, a.err)
	}
	second, said, err := w.spawn()
	if err != nil {
		t.Fatal(err)
	}
	if said == nil || said.OK || said.Code != task.CodeUnavailable.String() || !strings.Contains(said.Error, pid) || !strings.Contains(said.Error, w.queueDir) {
		t.Errorf("a second daemon says %+v", said)
	}
	<-second.dead
	// From another login, which has another runtime directory.
	other := filepath.Join(filepath.Dir(w.runtime), "r2")
	if err := os.Mkdir(other, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, said, err = w.spawn("XDG_RUNTIME_DIR=" + other); err != nil {
		t.Fatal(err)
	}
	if said == nil || said.OK || !strings.Contains(said.Error, pid) {
		t.Errorf("a second daemon with another runtime directory says %+v", said)
	}
	<-w.daemon().dead
	w.mu.Lock()
	w.current = first
	w.mu.Unlock()
	w.submit(submission("a", "true"))
	if info := w.await("a"); info.GetState() != "succeeded" {
		t.Errorf("the first is harmed: a %s", info.GetState())
	}
}

// TestOtherUser: nobody else gets through the socket, even where the modes of
// files would let them.
func TestOtherUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t, binaries.plain)
	if os.Getuid() != 0 {
		t.Skip("acting as another user needs root")
	}
	w.mustStart()
	open := func(mode os.FileMode, paths ...string) {
		t.Helper()
		for _, p := range paths {
			if err := os.Chmod(p, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	open(0o755, filepath.Dir(w.workspace), w.workspace, w.runtime)
	for _, args := range [][]string{{"ps"}, {"submit", "--", "true"}, {"cancel", "a"}} {
		a := w.run(call{args: append([]string{"--workspace", w.workspace}, args...), uid: stranger, dir: "/"})
		w.wants(a, exitRefused, "dspy-agent/", "not ours to use")
	}
	for _, args := range [][]string{{"start"}, {"stop"}} {
		a := w.run(call{args: append([]string{"--workspace", w.workspace}, args...), uid: stranger, dir: "/"})
		w.wants(a, exitRefused, "permission denied", "choose a folder of your own")
	}
	sockets, err := filepath.Glob(filepath.Join(w.runtime, "dspy-agent", "*.sock"))
	if err != nil || len(sockets) == 0 {
		t.Fatalf("sockets %v, %v", sockets, err)
	}
	open(0o755, filepath.Join(w.runtime, "dspy-agent"))
	open(0o666, sockets...)
	a := w.run(call{args: []string{"--workspace", w.workspace, "submit", "--", "true"}, uid: stranger, dir: "/"})
	w.wants(a, exitRefused, "cannot be trusted", "uid 0")
	if all := w.all(); len(all) != 0 {
		t.Errorf("%d tasks of a stranger were accepted", len(all))
	}
}

// TestUnsafeRuntimeDir: a runtime directory that is not ours alone is refused.
func TestUnsafeRuntimeDir(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare func(dir string) error
		words   []string
	}{
		"of another user": {func(dir string) error { return errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, stranger, stranger)) },
			[]string{"belongs to uid 54321", "XDG_RUNTIME_DIR"}},
		"a symbolic link": {func(dir string) error {
			return errors.Join(os.Mkdir(dir+"-elsewhere", 0o700), os.Symlink(dir+"-elsewhere", dir))
		}, []string{"symbolic link", "remove it"}},
		"open to others": {func(dir string) error { return errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o777)) },
			[]string{"open to others", "chmod 700"}},
		"a file": {func(dir string) error { return os.WriteFile(dir, nil, 0o600) }, []string{"not a directory", "remove it"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, binaries.plain)
			if os.Getuid() != 0 && name == "of another user" {
				t.Skip("giving a folder away needs root")
			}
			dir := filepath.Join(w.runtime, "dspy-agent")
			if err := c.prepare(dir); err != nil {
				t.Fatal(err)
			}
			w.wants(w.dspy("start"), exitFailed, append(c.words, dir)...)
			if exists(filepath.Join(w.queueDir, "owner.json")) {
				t.Error("the queue is held although the daemon could not start")
			}
		})
	}
}

// TestDamagedCurrent: CURRENT names no database of ours.
func TestDamagedCurrent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, binaries.plain)
	w.dspyOK("start")
	w.dspyOK("submit", "--id", "a", "--wait", "--", "true")
	w.dspyOK("stop")
	current := filepath.Join(w.queueDir, "CURRENT")
	good, err := os.ReadFile(current)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"noise": "\x00\xff\x13", "empty": "", "elsewhere": "../../../etc/passwd\n", "missing": "queue-000042.db\n",
	} {
		if err := os.WriteFile(current, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		a := w.dspy("start")
		if a.code == exitDone {
			t.Errorf("%s: the daemon started:\n%s", name, a.out)
			w.dspyOK("stop")
			continue
		}
		w.wants(a, a.code, current)
		t.Logf("%s: exit code %d: %s", name, a.code, a.err)
	}
	if err := os.WriteFile(current, good, 0o600); err != nil {
		t.Fatal(err)
	}
	w.dspyOK("start")
	if info := w.task("a"); info.GetState() != "succeeded" {
		t.Errorf("a is %s", info.GetState())
	}
	w.dspyOK("stop")
	// A database that is none.
	db := filepath.Join(w.queueDir, strings.TrimSpace(string(good)))
	if err := os.WriteFile(db, []byte(strings.Repeat("this is no database\n", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	a := w.dspy("start")
	w.wants(a, exitFailed, db, "damaged", "backup")
}

// TestOddPaths: blanks, quotes and every other character that a folder may have
// in its name, and names as long as they may be.
func TestOddPaths(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(strings.Repeat("d", 200)+"/", 15) + "end" // more than 3000 bytes
	for name, folder := range map[string]string{
		"blanks and quotes": `it's a "very odd" $HOME; folder #1 \ ü`, "line": "two\nlines", "dash": "-rf", "long": deep,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, binaries.plain)
			w.workspace = filepath.Join(w.workspace, folder)
			w.queueDir = filepath.Join(w.workspace, "logs", "env_queue")
			if err := os.MkdirAll(w.workspace, 0o700); err != nil {
				t.Fatal(err)
			}
			none := w.dspy("ps")
			w.wants(none, exitNotFound, "there is no queue")
			// What it says to do works when it is typed.
			_, hint, ok := strings.Cut(none.err, "make one here with: ")
			if !ok {
				t.Fatalf("no hint in %q", none.err)
			}
			sh(t, w, hint)
			w.dspyOK("submit", "--id", "a", "--wait", "--", "sh", "-c", `pwd; echo '{"n":1}' > "$DSPY_RESULT_FILE"`)
			if out := w.dspyOK("logs", "a"); out != w.workspace+"\n" {
				t.Errorf("output %q", out)
			}
			w.dspyOK("result", "a")
			w.dspyOK("show", "a")
			w.dspyOK("status")
			w.dspyOK("stop")
		})
	}
}

// TestTooLongPaths: longer than the kernel takes is refused, and says which.
func TestTooLongPaths(t *testing.T) {
	t.Parallel()
	w := newWorld(t, binaries.plain)
	long := filepath.Join(w.runtime, strings.Repeat("r", 120))
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	a := w.run(call{args: []string{"start"}, env: []string{"XDG_RUNTIME_DIR=" + long}})
	w.wants(a, exitRefused, "107", "XDG_RUNTIME_DIR", "shorter")
	a = w.dspy("--workspace", "/"+strings.Repeat(strings.Repeat("w", 200)+"/", 30), "start")
	w.wants(a, exitRefused, "workspace")
	a = w.dspy("--workspace", filepath.Join(w.workspace, "not-there"), "start")
	w.wants(a, exitRefused, "not-there", "not a folder")
}
