package containerinit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

// asInit in the environment makes the test's own program the init.
const asInit = "DSPY_TEST_AS_INIT"

func TestMain(m *testing.M) {
	if os.Getenv(asInit) != "" {
		signals := make(chan os.Signal, 64)
		signal.Notify(signals)
		os.Exit(Main(os.Args[1:], os.Environ(), signals))
	}
	goleak.VerifyTestMain(m)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// place makes the folder of a record.
func place(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, OutputFile), nil, 0o600))
	return dir
}

// contained is an init in a pid namespace of its own, over a program.
func contained(t *testing.T, dir string, argv ...string) *exec.Cmd {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a pid namespace takes root: run the tests as root")
	}
	cmd := exec.Command(os.Args[0], Args(dir, 1<<30, argv)...)
	cmd.Env = append(os.Environ(), asInit+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	t.Cleanup(func() {
		if said.Len() > 0 {
			t.Logf("the init said %q", said.String())
		}
	})
	return cmd
}

// code runs it to its end.
func code(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode()
}

func record(t *testing.T, dir string) Record {
	t.Helper()
	r, err := Read(dir)
	must(t, err)
	return r
}

func printed(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, OutputFile))
	must(t, err)
	return string(b)
}

// sh runs a script, and returns how it ended.
func sh(t *testing.T, script string) (End, string) {
	t.Helper()
	dir := place(t)
	got := code(t, contained(t, dir, "/bin/sh", "-c", script))
	r := record(t, dir)
	if r.End == nil || r.Alive || !r.Begun() || r.End.Code != got {
		t.Fatalf("%q: the record is %+v, end %+v, and the exit code %d", script, r, r.End, got)
	}
	return *r.End, printed(t, dir)
}

func TestEnds(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]End{
		"true":          {Code: 0},
		"exit 3":        {Code: 3},
		"exit 255":      {Code: 255},
		"kill -KILL $$": {Code: 137, Signal: 9},
		"kill -TERM $$": {Code: 143, Signal: 15},
	} {
		got, _ := sh(t, script)
		if got.Code != want.Code || got.Signal != want.Signal || got.Asked {
			t.Errorf("%q: %+v, want %+v", script, got, want)
		}
	}
}

// What cannot be run has the exit codes that shells and other inits give it.
func TestNoProgram(t *testing.T) {
	t.Parallel()
	script := filepath.Join(t.TempDir(), "script")
	must(t, os.WriteFile(script, []byte("echo no shebang; exit 4\n"), 0o755))
	for argv0, want := range map[string]int{"no-such-program": 127, "/no/such/program": 127, "/tmp": 126, "/etc/passwd": 126, script: 4} {
		dir := place(t)
		if got := code(t, contained(t, dir, argv0)); got != want {
			t.Errorf("%s: exit code %d, want %d", argv0, got, want)
		}
		if r := record(t, dir); r.End == nil || r.End.Code != want || (want != 4) != strings.Contains(printed(t, dir), argv0) {
			t.Errorf("%s: %+v, output %q", argv0, r.End, printed(t, dir))
		}
	}
}

// All that was printed is there, whoever printed it, and told apart.
func TestOutput(t *testing.T) {
	t.Parallel()
	dir := place(t)
	const lines = 20000
	got := code(t, contained(t, dir, "/bin/sh", "-c", fmt.Sprintf("echo oops >&2; sleep 0.1; i=0; while [ $i -lt %d ]; do echo line $i; i=$((i+1)); done; (sleep 100; echo never) & printf end", lines)))
	var want strings.Builder
	want.WriteString("oops\n")
	for i := range lines {
		fmt.Fprintf(&want, "line %d\n", i)
	}
	want.WriteString("end")
	if have := printed(t, dir); got != 0 || have != want.String() {
		t.Errorf("exit code %d, %d bytes, want %d", got, len(have), want.Len())
	}
	log, err := taskfiles.OpenLog(filepath.Join(dir, OutputFile))
	must(t, err)
	defer log.Close() //nolint:errcheck // only read from
	if s, until, err := log.Stream(0); s != taskfiles.Stderr || until != int64(len("oops\n")) || err != nil {
		t.Errorf("the first stream is %s until %d, %v", s, until, err)
	}
}

// Orphans are buried while the program runs, and killed when it has ended.
func TestOrphans(t *testing.T) {
	t.Parallel()
	began := time.Now()
	// To kill(1) one that is dead and not buried is there.
	end, out := sh(t, `p=$(sh -c 'sleep 0.05 >/dev/null & echo $!'); while kill -0 $p 2>/dev/null; do sleep 0.02; done; (sleep 300 &); echo done; exit 7`)
	if end.Code != 7 || out != "done\n" || time.Since(began) >= drainPatience {
		t.Errorf("%+v, %q, after %s", end, out, time.Since(began))
	}
}

// Signals reach the program, and the record says that somebody had asked for the end.
func TestSignals(t *testing.T) {
	t.Parallel()
	dir := place(t)
	cmd := contained(t, dir, "/bin/sh", "-c", `trap 'echo usr; exit 9' USR1; trap 'echo term' TERM; echo ready; while :; do sleep 0.05; done`)
	must(t, cmd.Start())
	await(t, dir, "ready\n")
	if r := record(t, dir); !r.Alive || r.End != nil {
		t.Errorf("while it runs: %+v", r)
	}
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	await(t, dir, "term\n")
	must(t, cmd.Process.Signal(syscall.SIGUSR1))
	_ = cmd.Wait() // it ends by a signal, or with an exit code
	if r := record(t, dir); r.End == nil || r.End.Code != 9 || !r.End.Asked || r.Alive {
		t.Errorf("%+v, %+v", r, r.End)
	}
}

// await waits for a text in the output.
func await(t *testing.T, dir, text string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for late := time.Now().Add(time.Minute); !strings.Contains(printed(t, dir), text); {
		<-tick.C // polls
		if time.Now().After(late) {
			t.Fatalf("%q does not come", text)
		}
	}
}

// However often it is started, the program runs once.
func TestOnce(t *testing.T) {
	t.Parallel()
	dir := place(t)
	codes := make(chan int)
	const starts = 4
	for range starts {
		cmd := contained(t, dir, "/bin/sh", "-c", "echo ran; exit 6")
		go func() { _ = cmd.Run(); codes <- cmd.ProcessState.ExitCode() }()
	}
	sum := map[int]int{}
	for range starts {
		sum[<-codes]++
	}
	if sum[6] != 1 || sum[Taken] != starts-1 || printed(t, dir) != "ran\n" {
		t.Errorf("exit codes %v, output %q", sum, printed(t, dir))
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*"+newSuffix+"*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// What is withdrawn does not begin, and what has begun is not withdrawn.
func TestWithdraw(t *testing.T) {
	t.Parallel()
	dir := place(t)
	for range 2 {
		if ok, err := Withdraw(dir); !ok || err != nil {
			t.Fatalf("%v, %v", ok, err)
		}
	}
	if got := code(t, contained(t, dir, "/bin/echo", "ran")); got != Taken || printed(t, dir) != "" {
		t.Errorf("exit code %d, output %q", got, printed(t, dir))
	}
	if r := record(t, dir); r.Begun() || !r.Claimed || r.End != nil {
		t.Errorf("%+v", r)
	}
	dir = place(t)
	code(t, contained(t, dir, "/bin/true"))
	if ok, err := Withdraw(dir); ok || err != nil {
		t.Errorf("after it has run: %v, %v", ok, err)
	}
}

// Who is killed leaves a claim, no end, and no lock.
func TestKilled(t *testing.T) {
	t.Parallel()
	dir := place(t)
	cmd := contained(t, dir, "/bin/sh", "-c", "echo ready; sleep 1000")
	must(t, cmd.Start())
	await(t, dir, "ready\n")
	must(t, cmd.Process.Kill())
	_ = cmd.Wait() // it ends by a signal, or with an exit code
	if r := record(t, dir); r.Alive || r.End != nil || !r.Begun() {
		t.Errorf("%+v", r)
	}
}

// It kills whom it sees, so it works nowhere but in a namespace of its own; and where it
// cannot write it runs nothing.
func TestWhereItCannotWork(t *testing.T) {
	t.Parallel()
	dir := place(t)
	cmd := contained(t, dir, "/bin/echo", "ran")
	cmd.SysProcAttr = nil
	if got := code(t, cmd); got != Cannot {
		t.Errorf("outside of a container: exit code %d", got)
	}
	must(t, os.Remove(filepath.Join(dir, OutputFile)))
	if got := code(t, contained(t, dir, "/bin/echo", "ran")); got != Cannot || record(t, dir).Claimed {
		t.Errorf("without a log: exit code %d, %+v", got, record(t, dir))
	}
}

// A program may put anything in the place of its record, or remove it: that tells that it
// has begun, and is no trouble of ours.
func TestStrangeFiles(t *testing.T) {
	t.Parallel()
	claimed, ended := []byte(`{"v":1}`), []byte(`{"v":1,"code":3}`)
	for what, spoil := range map[string]func(dir string) error{
		"a claim that says nothing": func(dir string) error { return os.WriteFile(filepath.Join(dir, claimFile), []byte("{}"), 0o600) },
		"an end that is none": func(dir string) error {
			return errors.Join(os.WriteFile(filepath.Join(dir, claimFile), claimed, 0o600), os.WriteFile(filepath.Join(dir, endFile), []byte("5"), 0o600))
		},
		"an end of nobody's":  func(dir string) error { return os.WriteFile(filepath.Join(dir, endFile), []byte("{}"), 0o600) },
		"an end that is read": func(dir string) error { return os.Symlink("/dev/zero", filepath.Join(dir, endFile)) },
		"a claim is a FIFO":   func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, claimFile), 0o600) },
		"a claim is a folder": func(dir string) error { return os.Mkdir(filepath.Join(dir, claimFile), 0o700) },
		"a claim is a link":   func(dir string) error { return os.Symlink("/no/such", filepath.Join(dir, claimFile)) },
		"a closed folder":     func(dir string) error { return os.Chmod(dir, 0o500) },
		"a folder is a file":  func(dir string) error { return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)) },
		"a folder is a link": func(dir string) error {
			return errors.Join(os.Rename(dir, dir+"-2"), os.Symlink(dir+"-2", dir))
		},
	} {
		dir := place(t)
		must(t, spoil(dir))
		if r := record(t, dir); r.End != nil || !r.Begun() || r.Alive || r.Gone {
			t.Errorf("%s: %+v", what, r)
		}
		if ok, err := Withdraw(dir); ok || err != nil {
			t.Errorf("%s is withdrawn: %v, %v", what, ok, err)
		}
		_ = os.Chmod(dir, 0o700) // for who cleans up
	}
	dir := place(t)
	must(t, os.WriteFile(filepath.Join(dir, endFile), ended, 0o600))
	if r := record(t, dir); r.End == nil || r.End.Code != 3 || !r.Begun() {
		t.Errorf("an end without a claim: %+v", r)
	}
	must(t, os.WriteFile(filepath.Join(dir, claimFile), []byte(`{"v":1,"withdrawn":true}`), 0o600))
	if r := record(t, dir); r.End == nil || !r.Begun() {
		t.Errorf("withdrawn, and ended: %+v", r)
	}
}

// Who lives was not withdrawn, whatever its program has made of its claim.
func TestForgedWithdrawal(t *testing.T) {
	t.Parallel()
	dir := place(t)
	d, err := openFolder(dir)
	must(t, err)
	defer d.close()
	lock, err := d.take(claim{Version: version, Boot: bootID(), At: time.Now()})
	must(t, err)
	defer lock.Close() //nolint:errcheck // of a test
	must(t, os.WriteFile(filepath.Join(dir, claimFile), fmt.Appendf(nil, `{"v":1,"boot":%q,"withdrawn":true}`, bootID()), 0o600))
	if r := record(t, dir); !r.Begun() || !r.Alive {
		t.Errorf("%+v", r)
	}
}

// A folder that was removed is made for a withdrawal, and what is in the place of one is not
// followed when it is made ready.
func TestFolderOfRecord(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "shared", ".attempt")
	if r := record(t, dir); !r.Gone || r.Begun() {
		t.Errorf("of no folder: %+v", r)
	}
	if ok, err := Withdraw(dir); !ok || err != nil || !record(t, dir).Withdrawn {
		t.Errorf("%v, %v, %+v", ok, err, record(t, dir))
	}
	elsewhere, log := t.TempDir(), filepath.Join(t.TempDir(), "1-1.log")
	must(t, os.RemoveAll(dir))
	must(t, os.Symlink(elsewhere, dir))
	if err := Prepare(dir, log); err == nil {
		t.Error("a link is taken for the folder")
	}
	if made, err := os.ReadDir(elsewhere); err != nil || len(made) > 0 {
		t.Errorf("made elsewhere: %v, %v", made, err)
	}
	must(t, os.Remove(dir))
	for range 2 {
		must(t, Prepare(dir, log))
	}
	must(t, os.WriteFile(log, []byte("text"), 0o600))
	if got := printed(t, dir); got != "text" {
		t.Errorf("the log by its other name: %q", got)
	}
}
