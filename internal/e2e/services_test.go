package e2e

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/dockertest"
	"github.com/dspy-agent/dspy-agent/internal/servicetest"
)

// serviceLine is what is read here of services status --json.
type serviceLine struct {
	Name, Status, Phase, Reason string
	ContainerID                 string `json:"container_id"`
	StartedAt                   string `json:"started_at"`
}

// services asks env-manager how they are; nil = none answers.
func (w *world) services() []serviceLine {
	w.Helper()
	a := w.dspy("services", "status", "--json")
	if a.code == exitNoDaemon {
		return nil
	}
	if a.code != exitDone {
		w.Fatalf("services status ended with %d: %s", a.code, a.err)
	}
	var all []serviceLine
	if err := json.Unmarshal([]byte(a.out), &all); err != nil {
		w.Fatalf("services status says %s: %v", a.out, err)
	}
	return all
}

// startEnvManager starts one in the engine's network, where containers are reached at
// their own addresses.
func (w *world) startEnvManager(e *dockertest.Engine) *exec.Cmd {
	w.Helper()
	cmd, err := e.Command(w.Context(), filepath.Join(w.bin, "env-manager"), "--workspace", w.workspace)
	if err != nil {
		w.Fatal(err)
	}
	out, err := os.OpenFile(filepath.Join(w.workspace, "env-manager.out"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		w.Fatal(err)
	}
	defer out.Close()
	cmd.Env, cmd.Stdout, cmd.Stderr = w.env, out, out
	if err := cmd.Start(); err != nil {
		w.Fatal(err)
	}
	return cmd
}

// TestServicesWhateverIsKilled: env-manager is killed at random while the nine services
// start. In the end each is there once, and all are ready; killed ones come back, and
// the engine's end is survived in order.
func TestServicesWhateverIsKilled(t *testing.T) {
	t.Parallel()
	e := dockertest.Start(t, dockertest.Config{})
	images := servicetest.Stack(t, e, servicetest.StackOptions{})
	w := newWorld(t, binaries.plain)
	w.env = append(w.env, "DOCKER_HOST="+e.Address())
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 7))
	for range rounds(4, 20) {
		cmd := w.startEnvManager(e)
		// When it is killed is what is tried, so nothing is waited for.
		timer := time.AfterFunc(time.Duration(rnd.IntN(2500))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		timer.Stop()
	}
	last := w.startEnvManager(e)
	t.Cleanup(func() { _ = last.Process.Kill(); _ = last.Wait() })
	lives := w.allReady(images, nil)
	if all := e.Containers(t); len(all) != len(images) {
		t.Fatalf("there are %d containers for %d services", len(all), len(images))
	}
	for _, one := range w.services() {
		e.KillContainer(t, one.ContainerID)
	}
	lives = w.allReady(images, lives)
	if err := e.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := e.Up(); err != nil {
		t.Fatal(err)
	}
	w.allReady(images, lives)
	if again := e.Containers(t); len(again) != len(images) {
		t.Errorf("there are %d containers", len(again))
	}
}

// allReady waits until all services run and answer, each in another life than before,
// and returns when these began.
func (w *world) allReady(images, before map[string]string) map[string]string {
	w.Helper()
	var last []serviceLine
	ready := func(s serviceLine) bool {
		return s.Status == "running" && s.Phase == "ready" && s.StartedAt != "" && s.StartedAt != before[s.Name]
	}
	w.Cleanup(func() {
		if w.Failed() {
			w.Logf("services: %+v", last)
		}
	})
	w.eventually(2*time.Minute, "all services are ready", func() bool {
		last = w.services()
		return len(last) == len(images) && !slices.ContainsFunc(last, func(s serviceLine) bool { return !ready(s) })
	})
	lives := map[string]string{}
	for _, s := range last {
		lives[s.Name] = s.StartedAt
	}
	return lives
}
