package probe_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/envmgr/probe"
)

// startRedis runs a real server until the test ends, or it is stopped.
func startRedis(t *testing.T, args ...string) (addr string, stop func()) {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatalf("%v: scripts/setup-tests installs it", err)
	}
	addr = refusing(t)
	cmd := exec.Command(path, append([]string{"--bind", "127.0.0.1", "--port", fmt.Sprint(portOf(t, addr)), "--save", ""}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(output.String())
		}
	}
	t.Cleanup(stop)
	return addr, stop
}

// await probes as a supervisor would, until something else is found than that nobody
// listens.
func await(t *testing.T, kind probe.Kind, addr string) probe.Result {
	t.Helper()
	var pauses probe.Startup
	for late := time.Now().Add(patience); ; {
		r := run(t, kind, addr)
		if !errors.Is(r.Err, probe.ErrRefused) {
			return r
		}
		if time.Now().After(late) {
			t.Fatalf("still %v", r)
		}
		<-time.After(pauses.Next()) // polls a process that announces nothing
	}
}

func TestRealRedis(t *testing.T) {
	t.Parallel()
	addr, stop := startRedis(t, "--dir", t.TempDir())
	expect(t, await(t, probe.Redis, addr), nil, "PING was answered with PONG")
	expect(t, run(t, probe.HTTP, addr), probe.ErrClosed, "") // it takes that for an attack
	stop()
	expect(t, run(t, probe.Redis, addr), probe.ErrRefused, "")
}

func TestRealRedisWithPassword(t *testing.T) {
	t.Parallel()
	addr, _ := startRedis(t, "--dir", t.TempDir(), "--requirepass", "secret")
	expect(t, await(t, probe.Redis, addr), nil, "PING was answered with -NOAUTH: it wants a password, and is up")
}

func TestRealRedisWithTooManyClients(t *testing.T) {
	t.Parallel()
	addr, _ := startRedis(t, "--dir", t.TempDir(), "--maxclients", "1")
	expect(t, await(t, probe.Redis, addr), nil, "PONG")
	for late := time.Now().Add(patience); ; { // the probe is counted until the server has seen that it left
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "PING\r\n")
		if answer, _ := bufio.NewReader(conn).ReadString('\n'); answer == "+PONG\r\n" {
			break
		}
		if time.Now().After(late) {
			t.Fatal("no client is let in")
		}
	}
	expect(t, run(t, probe.Redis, addr), probe.ErrNotReady, "-ERR max number of clients reached")
}

func TestRealRedisThatReadsItsData(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	addr, stop := startRedis(t, "--dir", dir, "--enable-debug-command", "yes")
	expect(t, await(t, probe.Redis, addr), nil, "PONG")
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	command(t, conn, "DEBUG POPULATE 100000")
	command(t, conn, "SAVE")
	stop()

	// A hundred seconds for all keys; it hears nobody but between two.
	addr, _ = startRedis(t, "--dir", dir, "--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024")
	expect(t, await(t, probe.Redis, addr), probe.ErrNotReady, "PING was answered with -LOADING: it still reads its data")
}

// command has a server do something, which must succeed.
func command(t *testing.T, conn net.Conn, line string) {
	t.Helper()
	if _, err := io.WriteString(conn, line+"\r\n"); err != nil {
		t.Fatal(err)
	}
	if answer, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.HasPrefix(answer, "+") {
		t.Fatalf("%s: %q, %v", line, answer, err)
	}
}

func TestRedisAnswers(t *testing.T) {
	t.Parallel()
	denied := "-DENIED Redis is running in protected mode because protected mode is enabled. " + strings.Repeat("In this mode connections are only accepted from the loopback interface. ", 12) + "\r\n"
	for answer, tc := range map[string]struct {
		want error
		says string
	}{
		"+PONG\r\n":                            {nil, "PONG"},
		"+PONG\n":                              {nil, "PONG"},
		"-NOAUTH Authentication required.\r\n": {nil, "password"},
		"-NOPERM this user has no permissions to run the 'ping' command\r\n": {nil, "not allowed"},
		"-LOADING Redis is loading the dataset in memory\r\n":                {probe.ErrNotReady, "still reads its data"},
		"-MASTERDOWN Link with MASTER is down\r\n":                           {probe.ErrNotReady, "lost its master"},
		"-BUSY Redis is busy running a script.\r\n":                          {probe.ErrNotReady, "script"},
		"-MISCONF Redis is configured to save RDB snapshots, but cannot\r\n": {probe.ErrNotReady, "to disk"},
		denied:                     {probe.ErrNotReady, "protected mode"},
		"-ERR unknown \x1b[2J\r\n": {probe.ErrNotReady, "-ERR unknown [2J"},
		"+OK\r\n":                  {probe.ErrForeign, `does not speak the protocol of Redis: it says "+OK\r\n"`},
		"-\r\n":                    {probe.ErrForeign, ""},
		"-lower case\r\n":          {probe.ErrForeign, ""},
		"\r\n":                     {probe.ErrForeign, ""},
		"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n": {probe.ErrForeign, "HTTP/1.1 400"},
		"\x15\x03\x01\x00\x02\x02\x50":                          {probe.ErrForeign, `\x15\x03`},
		"+PO":                                                   {probe.ErrClosed, `in the middle of an answer, only "+PO"`},
		"":                                                      {probe.ErrClosed, "without an answer"},
	} {
		t.Run(strings.Fields(answer + " nothing")[0], func(t *testing.T) {
			t.Parallel()
			expect(t, run(t, probe.Redis, serve(t, saying(answer))), tc.want, tc.says)
		})
	}
}
