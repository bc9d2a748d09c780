package e2e

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

	"golang.org/x/sync/errgroup"
)

// lineServer is a peer that speaks lines over TCP: requests of any number go out
// in one write, and each is answered by one line.
type lineServer struct {
	addr    string
	request string
	good    string // how a good answer begins
}

// startBeanstalkd starts one that is on disk before it answers.
func startBeanstalkd(b *testing.B) *lineServer {
	b.Helper()
	port := freePort(b)
	p := &lineServer{addr: "127.0.0.1:" + port, good: "INSERTED "}
	p.request = fmt.Sprintf("put 0 0 60 %d\r\n%s\r\n", len(payloadOfBench), payloadOfBench)
	serve(b, p.addr, installed(b, "beanstalkd", "-l", "127.0.0.1", "-p", port, "-b", peerDir(b), "-f0"))
	return p
}

// startRedis starts one that syncs its log before it answers.
func startRedis(b *testing.B) *lineServer {
	b.Helper()
	port := freePort(b)
	p := &lineServer{addr: "127.0.0.1:" + port, good: ":"}
	p.request = fmt.Sprintf("*3\r\n$5\r\nRPUSH\r\n$1\r\nq\r\n$%d\r\n%s\r\n", len(payloadOfBench), payloadOfBench)
	serve(b, p.addr, installed(b, "redis-server", "--bind", "127.0.0.1", "--port", port, "--dir", peerDir(b),
		"--save", "", "--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"))
	return p
}

func (p *lineServer) open(b *testing.B, l load) (func() error, func()) {
	b.Helper()
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		b.Fatal(err)
	}
	requests := strings.Repeat(p.request, l.batch)
	answers := bufio.NewReader(conn)
	put := func() error {
		// Beside the reading: a server that waits for its answers to be read takes no
		// more requests.
		var sending errgroup.Group
		sending.Go(func() error {
			_, err := io.WriteString(conn, requests)
			return err
		})
		for range l.batch {
			if err := p.readAnswer(answers); err != nil {
				_ = conn.Close() // nobody reads the rest, so the sending could last for ever
				return errors.Join(err, sending.Wait())
			}
		}
		return sending.Wait()
	}
	if l.batch == 1 {
		put = func() error {
			if _, err := io.WriteString(conn, requests); err != nil {
				return err
			}
			return p.readAnswer(answers)
		}
	}
	return put, func() { _ = conn.Close() }
}

func (p *lineServer) readAnswer(answers *bufio.Reader) error {
	line, err := answers.ReadSlice('\n')
	if err == nil && !strings.HasPrefix(string(line), p.good) {
		err = fmt.Errorf("%s answers %q", p.addr, line)
	}
	return err
}

// peerDir is on the file system that the daemon's queue is on.
func peerDir(b *testing.B) string {
	b.Helper()
	return b.TempDir()
}

func freePort(b *testing.B) string {
	b.Helper()
	lis, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer lis.Close()
	_, port, err := net.SplitHostPort(lis.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	return port
}

// installed is the command of a server that scripts/setup-tests installs.
func installed(b *testing.B, name string, args ...string) *exec.Cmd {
	b.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		b.Fatalf("%v: scripts/setup-tests installs it", err)
	}
	return exec.Command(path, args...)
}

// serve runs a server until the benchmark ends, and returns when it answers.
func serve(b *testing.B, addr string, cmd *exec.Cmd) {
	b.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		var exit *exec.ExitError
		if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
			b.Error(err)
		}
	})
	for deadline := time.Now().Add(10 * time.Second); ; {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("%s does not answer: %v", cmd.Path, err)
		}
		pauseFor(10 * time.Millisecond)
	}
}
