package process

import (
	"errors"
	"io/fs"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/backendtest"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

func TestExercise(t *testing.T) { exercise(t, false) }

func TestExerciseWithoutCgroups(t *testing.T) { exercise(t, true) }

func exercise(t *testing.T, noCgroups bool) {
	backendtest.Exercise(t, func(t *testing.T) backendtest.Place {
		p := newPlace(t)
		opts := p.options("q")
		opts.NoCgroups = noCgroups
		return backendtest.Place{
			Open: func(t *testing.T) backendtest.Backend {
				b, err := New(opts)
				must(t, err)
				return b
			},
			Output: func(t *testing.T, ref task.Ref) string {
				b, err := os.ReadFile(taskfiles.Layout{Dir: opts.TasksDir}.LogPath(ref))
				if err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Fatal(err)
				}
				return string(b)
			},
			Crash: func(t *testing.T) { p.signalSupervisor(t, unix.SIGKILL) },
			Can: backendtest.Abilities{
				Payload: true, ResultFile: true, Marker: true, TimeLimit: true, HostProcess: true, ExitCodes: true, Signals: true, OneStream: true, PreExec: true,
			},
		}
	})
}
