package probe_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/envmgr/probe"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	for _, s := range []probe.Spec{
		{Kind: probe.HTTP},
		{Kind: probe.HTTP, Host: "::1", Port: 8082, Path: "/health?deep=1", Timeout: time.Second},
		{Kind: probe.HTTP, Path: "/caf%C3%A9/é"},
		{Kind: probe.TCP, Port: 9000},
		{Kind: probe.Redis},
		{Kind: probe.ZooKeeper, Host: "localhost"},
		{Kind: probe.Kafka, Port: 65535},
		{Kind: probe.Exec, Command: []string{"true", ""}},
		{Kind: probe.Health, Timeout: probe.MinTimeout},
		{Kind: probe.None},
	} {
		if err := s.Validate(); err != nil {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

func TestValidateSaysWhatToWrite(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		spec probe.Spec
		says string
	}{
		{probe.Spec{}, "names no kind: write one of http, tcp, redis"},
		{probe.Spec{Kind: "postgres"}, `no probe of kind "postgres": write one of http`},
		{probe.Spec{Kind: probe.TCP}, `needs a port: write it, as in "tcp://:9000"`},
		{probe.Spec{Kind: probe.TCP, Port: 65536}, "no port 65536: write one between"},
		{probe.Spec{Kind: probe.Redis, Port: -1}, "no port -1"},
		{probe.Spec{Kind: probe.Redis, Path: "/0"}, `has no path: leave "/0" out, or write kind http`},
		{probe.Spec{Kind: probe.Redis, Host: "redis"}, "asks no name server"},
		{probe.Spec{Kind: probe.Redis, Host: "fe80::1%eth0"}, "write an address of this machine"},
		{probe.Spec{Kind: probe.HTTP, Path: "health"}, "write it with a slash in front"},
		{probe.Spec{Kind: probe.HTTP, Path: "/a b"}, "is not a path"},
		{probe.Spec{Kind: probe.HTTP, Path: "/a\r\nHost: x"}, "is not a path"},
		{probe.Spec{Kind: probe.HTTP, Path: "/a#b"}, "is not a path"},
		{probe.Spec{Kind: probe.HTTP, Path: "/%zz"}, "is not a path"},
		{probe.Spec{Kind: probe.HTTP, Command: []string{"curl"}}, "runs no command: leave the command out, or write kind exec"},
		{probe.Spec{Kind: probe.Exec}, "needs its command"},
		{probe.Spec{Kind: probe.Exec, Command: []string{""}}, "needs its command"},
		{probe.Spec{Kind: probe.Exec, Command: []string{"x"}, Port: 1}, "connects to nothing: leave host and port out"},
		{probe.Spec{Kind: probe.Health, Host: "::1"}, "connects to nothing"},
		{probe.Spec{Kind: probe.Redis, Timeout: time.Millisecond}, "write 200ms or more"},
		{probe.Spec{Kind: probe.Redis, Timeout: -1}, "write 200ms or more"},
	} {
		err := tc.spec.Validate()
		if err == nil || !errors.Is(err, probe.ErrSpec) {
			t.Errorf("%+v: %v", tc.spec, err)
			continue
		}
		if msg := err.Error(); !strings.Contains(msg, tc.says) {
			t.Errorf("%+v: %q, want %q", tc.spec, msg, tc.says)
		}
		expect(t, probe.Run(t.Context(), tc.spec, at("127.0.0.1:1")), probe.ErrSpec, tc.says)
	}
}
