package probe_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/dspy-agent/dspy-agent/envmgr/probe"
)

// startProxy runs the proxy of a real engine, as that does for a published port, and
// returns where it listens.
func startProxy(t *testing.T, to string) string {
	t.Helper()
	path, err := exec.LookPath("docker-proxy")
	if err != nil {
		t.Fatalf("%v: it comes with Docker's engine, which scripts/setup-tests installs", err)
	}
	said, says, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	addr := refusing(t)
	cmd := exec.Command(path, "-proto", "tcp", "-host-ip", "127.0.0.1", "-host-port", fmt.Sprint(portOf(t, addr)),
		"-container-ip", "127.0.0.1", "-container-port", fmt.Sprint(portOf(t, to)))
	cmd.ExtraFiles = []*os.File{says} // where it says that it listens
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = cmd.Start()
	_ = says.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	b := make([]byte, 200)
	if n, err := said.Read(b); err != nil && err != io.EOF || n == 0 || b[0] != '0' {
		t.Fatalf("%s says %q, %v", path, b[:n], err)
	}
	return addr
}

// A connection to a published port is accepted before anything listens in the container.
func TestPublishedPort(t *testing.T) {
	t.Parallel()
	to := refusing(t)
	addr := startProxy(t, to)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatalf("the proxy does not do what this is about: %v", err)
	}
	_ = conn.Close()

	target := at(addr)
	target.Published, target.Hold = true, patience
	published := func(kind probe.Kind) probe.Result {
		return probe.Run(t.Context(), probe.Spec{Kind: kind, Port: 9000, Timeout: 2 * patience}, target)
	}
	kinds := []probe.Kind{probe.TCP, probe.HTTP, probe.Redis, probe.ZooKeeper, probe.Kafka}
	for _, kind := range kinds {
		expect(t, published(kind), probe.ErrClosed, "")
	}
	serveAt(t, to, func(conn net.Conn) { // the service is there
		hear(conn)
		_, _ = io.WriteString(conn, "+PONG\r\n")
		untilLeft(conn)
	})
	target.Hold = 0
	expect(t, published(probe.TCP), nil, "keeps them open")
	expect(t, published(probe.Redis), nil, "PONG")
}
