package container

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/dockertest"
	"github.com/dspy-agent/dspy-agent/internal/scheduler"
)

// awaitImage waits until an image is as wanted.
func (d *daemon) awaitImage(ref, what string, ok func(scheduler.Image) bool) scheduler.Image {
	d.t.Helper()
	d.await(ref+" "+what, func() bool { return ok(d.Images()[ref]) })
	return d.Images()[ref]
}

func ready(i scheduler.Image) bool { return i.Ready }

func bad(i scheduler.Image) bool { return i.Bad }

// An image is fetched once for all that want it, says how far it has come, and goes on
// where it was cut.
func TestPull(t *testing.T) {
	t.Parallel()
	e := dockertest.Shared(t, dockertest.Config{})
	r := dockertest.NewRegistry(t, e)
	ref := r.Push(t, "slow:1", dockertest.Heavier(t, dockertest.ShellImage(t), 3<<20, 1))
	r.Slow(1 << 20)
	r.Cut(1<<20, 1)
	p := newPlace(t, e.Address())
	d := p.daemon(t)
	d.Want([]string{ref})
	d.Want([]string{ref, dockertest.Shell})
	d.awaitImage(ref, "is being fetched", func(i scheduler.Image) bool { return strings.Contains(i.Why, " MB") })
	d.awaitImage(ref, "is there", ready)
	s := sh("echo here")
	s.Image = ref
	if tk := d.end(d.run(1, s)); tk.Status().Outcome.ExitCode != 0 {
		t.Errorf("outcome %+v", tk.Status().Outcome)
	}
}

// What can never be had is told from what may be there before long.
func TestPullThatFails(t *testing.T) {
	t.Parallel()
	e := dockertest.Shared(t, dockertest.Config{})
	r := dockertest.NewRegistry(t, e)
	private := r.Push(t, "private:1", dockertest.Heavier(t, dockertest.ShellImage(t), 1<<10, 2))
	p := newPlace(t, e.Address())
	d := p.daemon(t)
	missing, away, nonsense := r.Address()+"/no-such:1", "127.0.0.1:1/away:1", "UPPER CASE"
	d.Want([]string{missing, away, nonsense})
	if i := d.awaitImage(missing, "is not there", bad); !strings.Contains(i.Why, "does not exist") {
		t.Errorf("%+v", i)
	}
	d.awaitImage(nonsense, "is no name", bad)
	d.awaitImage(away, "is tried again", func(i scheduler.Image) bool { return strings.Contains(i.Why, "tried again") })
	r.RequireLogin("ada", "secret")
	d.Want([]string{private})
	if i := d.awaitImage(private, "may not be had", bad); !strings.Contains(i.Why, "docker login") {
		t.Errorf("%+v", i)
	}
}

// Credentials are those of the user's docker login, of whichever kind.
func TestCredentials(t *testing.T) {
	t.Parallel()
	e := dockertest.Shared(t, dockertest.Config{})
	r := dockertest.NewRegistry(t, e)
	r.RequireLogin("ada", "secret")
	auth := base64.StdEncoding.EncodeToString([]byte("ada:secret"))
	for n, config := range []string{
		`{"auths": {%q: {"auth": "` + auth + `"}}}`,
		`{"credHelpers": {%q: "test"}}`,
		`{"credsStore": "test", "auths": {%q: {}}}`,
	} {
		ref := r.Push(t, fmt.Sprintf("login:%d", n), dockertest.Heavier(t, dockertest.ShellImage(t), 1<<10, uint64(10+n)))
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, "config.json"), fmt.Appendf(nil, config, r.Address()), 0o600))
		helper := "#!/bin/sh\n[ \"$1\" = get ] && [ \"$(cat)\" = " + r.Address() + " ] && echo '{\"Username\": \"ada\", \"Secret\": \"secret\"}'\n"
		must(t, os.WriteFile(filepath.Join(dir, "docker-credential-test"), []byte(helper), 0o700))
		p := newPlace(t, e.Address())
		c, err := docker.New(docker.Options{Host: e.Address(), ConfigDir: dir, Path: dir})
		must(t, err)
		t.Cleanup(func() { must(t, c.Close()) })
		p.opts.Engine = c
		d := p.daemon(t)
		d.Want([]string{ref})
		if i := d.awaitImage(ref, "is there or not", func(i scheduler.Image) bool { return i.Ready || i.Bad }); !i.Ready {
			t.Errorf("with %s: %+v", config, i)
		}
		d.stop()
	}
}

// Images that were fetched for tasks are removed when nobody needs them; none that was
// there before, or that a container uses.
func TestPrune(t *testing.T) {
	t.Parallel()
	e := dockertest.Shared(t, dockertest.Config{})
	e.LoadShell(t)
	r := dockertest.NewRegistry(t, e)
	ours := r.Push(t, "ours:1", dockertest.Heavier(t, dockertest.ShellImage(t), 1<<10, 21))
	theirs := r.Push(t, "theirs:1", dockertest.Heavier(t, dockertest.ShellImage(t), 1<<10, 22))
	p := newPlace(t, e.Address())
	must(t, p.opts.Engine.Pull(t.Context(), theirs, func(docker.Progress) {}))
	d := p.daemon(t)
	d.Want([]string{ours, theirs, dockertest.Shell})
	for _, ref := range []string{ours, theirs, dockertest.Shell} {
		d.awaitImage(ref, "is there", ready)
	}
	s := sh("sleep 1000")
	s.Image = ours
	tk := d.run(1, s)
	d.running(tk)
	d.stop()
	d = p.daemon(t) // which knows of no task
	poll(t, "the engine", func() bool { return d.Down() == "" })
	for _, c := range []struct {
		name   string
		needed []string
		dry    bool
		kept   string
	}{
		{"needed", []string{ours}, false, "a task needs it"},
		{"in use", nil, false, "a container uses it"},
		{"dry", nil, true, ""},
		{"free", nil, false, ""},
	} {
		if c.name == "dry" {
			must(t, p.opts.Engine.Remove(t.Context(), nameOf(p.opts.QueueID, tk.Ref())))
		}
		got, err := d.Prune(t.Context(), c.needed, c.dry)
		if err != nil || len(got) != 1 || got[0].Image != ours || got[0].Kept != c.kept || got[0].Bytes == 0 {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
		_, err = p.opts.Engine.Image(t.Context(), ours)
		if gone := errors.Is(err, docker.ErrNoImage); gone != (c.name == "free") {
			t.Errorf("%s: it is gone: %v, %v", c.name, gone, err)
		}
	}
	for _, ref := range []string{theirs, dockertest.Shell} {
		if _, err := p.opts.Engine.Image(t.Context(), ref); err != nil {
			t.Error(err)
		}
	}
	if got, err := d.Prune(t.Context(), nil, false); err != nil || len(got) != 0 {
		t.Errorf("once more: %+v, %v", got, err)
	}
}
