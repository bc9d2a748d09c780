package app

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/envmgr"
	"github.com/dspy-agent/dspy-agent/envmgr/enginetest"
	"github.com/dspy-agent/dspy-agent/envmgr/probe"
	"github.com/dspy-agent/dspy-agent/internal/docker"
)

// TestEndedStaysEnded: what somebody has ended ends, even if env-manager was killed before
// it had; what is wanted begins, and goes on though it may use what was ended.
func TestEndedStaysEnded(t *testing.T) {
	t.Parallel()
	def := func(name string, needs ...envmgr.Need) envmgr.Definition {
		return envmgr.Definition{Name: name, Image: name, Ready: probe.Spec{Kind: probe.None}, Needs: needs}
	}
	set, err := envmgr.NewSet([]envmgr.Definition{def("ended"), def("wanted"), def("spared"), def("user", envmgr.Need{Name: "spared", Optional: true})})
	if err != nil {
		t.Fatal(err)
	}
	e := &enginetest.Engine{Images: map[string]bool{"wanted": true}}
	for _, name := range []string{"ended", "spared", "user"} {
		c := docker.Service{}
		c.Name, c.Phase, c.Started = name, docker.Running, time.Now()
		c.Labels = map[string]string{envmgr.LabelSite: "s", envmgr.LabelService: name}
		e.Put(c)
	}
	path := filepath.Join(t.TempDir(), "wants.json")
	if err := os.WriteFile(path, []byte(`{"down":["ended","spared"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	sup := envmgr.New(envmgr.Options{Engine: e, Set: set, Site: "s", Network: "n", Policy: envmgr.Defaults(), Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	var run sync.WaitGroup
	run.Go(func() { _ = sup.Run(ctx) }) // it ends with ctx
	defer run.Wait()
	defer cancel()
	w := &wants{Supervisor: sup, set: set, path: path, log: slog.New(slog.DiscardHandler)}
	if err := w.begin(ctx, nil); err != nil {
		t.Fatal(err)
	}
	snap, err := sup.Wait(ctx, func(s envmgr.Snapshot) bool {
		ended, _ := s.Of("ended")
		wanted, _ := s.Of("wanted")
		spared, _ := s.Of("spared")
		user, _ := s.Of("user")
		return ended.Phase == envmgr.Stopped && wanted.Ready() && spared.Ready() && user.Ready()
	})
	if err != nil || e.Calls("Stop") != 1 {
		t.Errorf("%d were ended (%v): %+v", e.Calls("Stop"), err, snap)
	}
}
