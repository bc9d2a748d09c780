package app

import (
	"fmt"
	"net"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/lease"
)

// writePrometheus writes the configuration of the service prometheus: it reads the numbers
// of both daemons, whose ports are on the host's loopback as it is.
func writePrometheus(path string, c config.Config) error {
	var text strings.Builder
	text.WriteString("# Written by env-manager at each start. Prometheus reads what both daemons count.\nglobal:\n  scrape_interval: 15s\nscrape_configs:\n")
	for _, job := range []struct{ name, addr string }{{"orchestrator", c.HTTPListen}, {"env-manager", c.EnvManager.HTTPAddr}} {
		if job.addr == "" {
			continue
		}
		fmt.Fprintf(&text, "  - job_name: %s\n    static_configs:\n      - targets: [%q]\n", job.name, local(job.addr))
	}
	if err := lease.WriteWhole(path, []byte(text.String())); err != nil {
		return fmt.Errorf("write the configuration of prometheus: %w", err)
	}
	return nil
}

// local is where a program of this host calls an address that somebody listens on.
func local(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
