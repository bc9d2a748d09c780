package probe_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/envmgr/probe"
)

func TestParseURL(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]probe.Spec{
		"http://127.0.0.1:8082/health": {Kind: probe.HTTP, Host: "127.0.0.1", Port: 8082, Path: "/health"},
		"http://:11434/api/tags?x=1":   {Kind: probe.HTTP, Port: 11434, Path: "/api/tags?x=1"},
		"http://":                      {Kind: probe.HTTP},
		"http://[::1]":                 {Kind: probe.HTTP, Host: "::1"},
		"tcp://:9000":                  {Kind: probe.TCP, Port: 9000},
		"redis://:6379":                {Kind: probe.Redis, Port: 6379},
		"redis://localhost":            {Kind: probe.Redis, Host: "localhost"},
		"redis://[::1]:6380":           {Kind: probe.Redis, Host: "::1", Port: 6380},
		"zookeeper://":                 {Kind: probe.ZooKeeper},
		"kafka://":                     {Kind: probe.Kafka},
		"health":                       {Kind: probe.Health},
		"none":                         {Kind: probe.None},
	} {
		got, err := probe.ParseURL(text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
		if got.String() != text {
			t.Errorf("%s is written as %s", text, got)
		}
	}
	for text, want := range map[string]string{
		"HTTP://:80/":             "http://:80/",
		"redis://127.0.0.1:6379/": "redis://127.0.0.1:6379",
		"http://:80?x":            "http://:80/?x",
	} {
		if got, err := probe.ParseURL(text); err != nil || got.String() != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	if got := (probe.Spec{Kind: probe.Exec, Command: []string{"pg_isready", "-q\n"}}).String(); got != "exec: pg_isready -q" {
		t.Errorf("%q", got)
	}
}

func TestParseURLSaysWhatToWrite(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"":                            `write it as in "http://127.0.0.1:8082/health"`,
		"127.0.0.1:9000":              "is not the URL of a probe: write it as in",
		"redis:6379":                  "is not the URL of a probe",
		"/health":                     "is not the URL of a probe",
		"postgres://:5432":            `no probe begins with "postgres://"`,
		"health://":                   `no probe begins with "health://"`,
		"://x":                        `no probe begins with "://"`,
		"https://:8443/health":        "https is not probed",
		"exec://true":                 "give it as a list, with kind exec",
		"tcp://9000":                  `write "tcp://:9000"`,
		"tcp://":                      "needs a port",
		"tcp://:0":                    `no port "0"`,
		"tcp://:65536":                "no port 65536",
		"tcp://:99999999999999999999": "no port",
		"tcp://:x":                    "is not a URL",
		"redis://:6379/0":             `has no path: write "redis://:6379"`,
		"redis://:6379?db=0":          "has no path",
		"http://redis:8080/":          "asks no name server",
		"http://:80/#top":             `what follows the "#"`,
		"redis://:secret@localhost":   "does not log in",
	} {
		_, err := probe.ParseURL(text)
		if err == nil || !errors.Is(err, probe.ErrSpec) {
			t.Errorf("%q: %v", text, err)
			continue
		}
		msg := err.Error()
		if !strings.Contains(msg, says) {
			t.Errorf("%q: %q, want %q", text, msg, says)
		}
		if strings.Contains(msg, "secret") {
			t.Errorf("%q: tells the password", msg)
		}
	}
}
