package dockertest_test

import (
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/jsonmessage"

	"github.com/dspy-agent/dspy-agent/internal/dockertest"
)

// pull pulls an image, and returns how often it was told how far that is.
func pull(t *testing.T, c *client.Client, ref, login string) (progress int, err error) {
	t.Helper()
	said, err := c.ImagePull(t.Context(), ref, image.PullOptions{RegistryAuth: login})
	if err != nil {
		return 0, err
	}
	defer said.Close()
	for d := json.NewDecoder(said); ; {
		var m jsonmessage.JSONMessage
		switch err := d.Decode(&m); {
		case errors.Is(err, io.EOF):
			return progress, nil
		case err != nil:
			return progress, err
		case m.Error != nil:
			return progress, m.Error
		case m.Progress != nil && m.Progress.Total > 0:
			progress++
		}
	}
}

func TestRegistry(t *testing.T) {
	t.Parallel()
	for name, cfg := range engines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := dockertest.Shared(t, cfg)
			c, r := e.Client(t), dockertest.NewRegistry(t, e)
			// A layer that the engine has not, however often this test has run on it.
			fresh := func() string {
				return r.Push(t, name+":1", dockertest.Heavier(t, dockertest.StandinImage(t), 1<<20, rand.Uint64()))
			}

			ref := fresh()
			r.Slow(1 << 20)
			began := time.Now()
			progress, err := pull(t, c, ref, "")
			if took := time.Since(began); err != nil || took < time.Second {
				t.Errorf("pull: %v after %v", err, took)
			}
			if progress < 3 && !cfg.Podman { // Podman's says what it began, not how far it is
				t.Errorf("%d lines of progress", progress)
			}
			r.Slow(0)

			ref = fresh()
			r.Cut(1<<18, 1)
			// Docker asks for the rest after 5 s; Podman leaves that to whoever asked.
			if _, err := pull(t, c, ref, ""); (err != nil) != cfg.Podman {
				t.Errorf("pull, cut once: %v", err)
			}
			if _, err := pull(t, c, ref, ""); err != nil {
				t.Errorf("pull, cut no more: %v", err)
			}

			ref = fresh()
			r.RequireLogin("ada", "secret")
			if _, err := pull(t, c, ref, ""); err == nil {
				t.Error("pulled without the password")
			}
			if _, err := pull(t, c, ref, r.Login(t, "ada", "wrong")); err == nil {
				t.Error("pulled with another password")
			}
			if _, err := pull(t, c, ref, r.Login(t, "ada", "secret")); err != nil {
				t.Errorf("pull with the password: %v", err)
			}
			if code, stdout, _ := end(t, c, start(t, c, ref, "", "out=1")); code != 0 || stdout != "out 1\n" {
				t.Errorf("exit code %d, %q", code, stdout)
			}
		})
	}
}
