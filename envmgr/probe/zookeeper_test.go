package probe_test

import (
	"net"
	"testing"

	"github.com/dspy-agent/dspy-agent/envmgr/probe"
)

// srvr is what a server of 3.8 says, which Debian has.
const srvr = "Zookeeper version: 3.8.0-1, built on 2022-11-25 17:32 UTC\nLatency min/avg/max: 0/0.0/0\nReceived: 1\n" +
	"Sent: 0\nConnections: 1\nOutstanding: 0\nZxid: 0x0\nMode: standalone\nNode count: 5\n"

func TestZooKeeper(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		answer string
		want   error
		says   string
	}{
		"alone":       {srvr, nil, "srvr was answered: standalone"},
		"follows":     {"Zookeeper version: 3.4.14\nMode: follower", nil, "follower"},
		"read-only":   {"Zookeeper version: 3.4.14\nMode: read-only\n", probe.ErrNotReady, "read-only"},
		"no mode":     {"Zookeeper version: 3.4.14\nSent: 0\n", probe.ErrNotReady, "without a mode"},
		"not allowed": {"srvr is not executed because it is not in the whitelist.\n", nil, "not in its whitelist, and it is up"},
		"no end":      {"srvr is not executed because it is not in the whitelist.", nil, "it is up"},
		"starts":      {"This ZooKeeper instance is not currently serving requests\n", probe.ErrNotReady, "not serving requests yet"},
		"another":     {"HTTP/1.1 400 Bad Request\r\nMode: x\r\n\r\n", probe.ErrForeign, "does not speak the protocol of ZooKeeper"},
		"nothing":     {"", probe.ErrClosed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := make(chan string, 1)
			addr := serve(t, func(conn net.Conn) {
				b := make([]byte, 10)
				n, _ := conn.Read(b)
				asked <- string(b[:n])
				_, _ = conn.Write([]byte(tc.answer))
			})
			expect(t, run(t, probe.ZooKeeper, addr), tc.want, tc.says)
			if got := <-asked; got != "srvr" {
				t.Errorf("asked with %q", got)
			}
		})
	}
}

// Whether the server hangs up behind its answer does not matter.
func TestZooKeeperThatStays(t *testing.T) {
	t.Parallel()
	expect(t, run(t, probe.ZooKeeper, serve(t, func(conn net.Conn) {
		saying(srvr)(conn)
		untilLeft(conn)
	})), nil, "standalone")
}
