package runtimedir_test

import (
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/runtimedir"
)

func TestSocketPath(t *testing.T) {
	// Programs of two releases must find each other: the name does not change.
	got := runtimedir.SocketPath("/run/user/1000/dspy-agent", "/home/ada/project/logs/env_queue")
	if want := "/run/user/1000/dspy-agent/f4e8d9b9a17ec818.sock"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if same := runtimedir.SocketPath("/run/user/1000/dspy-agent", "/home/ada/project/logs/env_queue/"); same != got {
		t.Errorf("a slash at the end makes another socket: %s", same)
	}
}
