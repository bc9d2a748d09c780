package container

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/backendtest"
	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

const shellImage = "dspy-test/shell:1"

func TestExercise(t *testing.T) {
	backendtest.Exercise(t, func(t *testing.T) backendtest.Place {
		o := newOptions(t)
		return backendtest.Place{
			Open: func(t *testing.T) backendtest.Backend {
				b, err := New(o)
				if err != nil {
					t.Fatal(err)
				}
				return b
			},
			Output: func(t *testing.T, ref task.Ref) string {
				b, err := os.ReadFile(taskfiles.Layout{Dir: o.TasksDir}.LogPath(ref))
				if err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Fatal(err)
				}
				return string(b)
			},
			Spec: func(s *task.Spec) {
				s.Image, s.ContainerDir, s.Dir = shellImage, s.Dir, ""
				s.Mounts = []task.Mount{{Host: os.TempDir(), Target: os.TempDir()}}
			},
			Ended: func(t *testing.T, ref task.Ref) bool {
				c, err := o.Engine.Inspect(t.Context(), nameOf(o.QueueID, ref))
				return err == nil && c.Phase == docker.Exited
			},
			Can: backendtest.Abilities{Payload: true, ResultFile: true, Marker: true, TimeLimit: true, ExitCodes: true},
		}
	})
}

func newOptions(t *testing.T) Options {
	t.Helper()
	c, err := docker.New(docker.Options{Host: os.Getenv("DSPY_TEST_DOCKER")})
	if err != nil {
		t.Fatal(err)
	}
	var id [8]byte
	_, _ = rand.Read(id[:])
	dir := t.TempDir()
	o := Options{
		QueueID: "test" + hex.EncodeToString(id[:]), TasksDir: filepath.Join(dir, "tasks"), Engine: c, UID: os.Getuid(), GID: os.Getgid(),
		Logger: slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Rules:  Rules{Mounts: []string{os.TempDir()}},
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		all, err := c.List(ctx, labelQueue+"="+o.QueueID)
		if err != nil {
			t.Errorf("list what is left: %v", err)
		}
		for _, l := range all {
			if err := c.Remove(ctx, l.ID); err != nil {
				t.Errorf("remove what is left: %v", err)
			}
		}
		_ = c.Close()
	})
	return o
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

var _ = bytes.MinRead
var _ = exec.ErrNotFound
