package container

import (
	"os"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/backendtest"
	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/dockertest"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

func TestExercise(t *testing.T) { exercise(t, dockertest.Config{}) }

func TestExercisePodman(t *testing.T) {
	if !full() {
		t.Skip("a hundred seconds more, left to the long run: DSPY_TEST_FULL=1 go test -run TestExercisePodman ./internal/container")
	}
	exercise(t, dockertest.Config{Podman: true})
}

func exercise(t *testing.T, cfg dockertest.Config) {
	e := dockertest.Shared(t, cfg)
	e.LoadShell(t)
	backendtest.Exercise(t, func(t *testing.T) backendtest.Place {
		p := newPlace(t, e.Address())
		return backendtest.Place{
			Open:   func(t *testing.T) backendtest.Backend { return p.open(t) },
			Output: p.output,
			Spec: func(s *task.Spec) {
				s.Image, s.ContainerDir, s.Dir = dockertest.Shell, s.Dir, ""
				s.Mounts = []task.Mount{{Host: os.TempDir(), Target: os.TempDir()}}
			},
			Ended: func(t *testing.T, ref task.Ref) bool {
				c, err := p.opts.Engine.Inspect(t.Context(), nameOf(p.opts.QueueID, ref))
				return err == nil && c.Phase == docker.Exited
			},
			Patience: 2 * time.Minute,
			Can:      backendtest.Abilities{Payload: true, ResultFile: true, Marker: true, TimeLimit: true, ExitCodes: true},
		}
	})
}
