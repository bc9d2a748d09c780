//go:build failpoint

package dropfolder

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/failpoint"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

var _ = play("scenario", scenario)

func play(role string, f func(dir string) error) bool {
	roles[role] = f
	return true
}

var longName = strings.Repeat("l", 250)

// TestDieAtEveryStep kills a process that takes files through everything that can
// become of them, at each failpoint; then another one goes on. In the end it has
// to be as if nothing had happened: go test -tags failpoint ./internal/dropfolder.
func TestDieAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, name := range failpoint.Names() {
		if !strings.HasPrefix(name, "dropfolder/") {
			continue
		}
		for _, hit := range []string{"", ":2"} {
			t.Run(name+hit, func(t *testing.T) {
				t.Parallel()
				dir := prepare(t)
				err := runScenario(t, dir, failpoint.Env+"="+name+hit)
				if err == nil && hit == "" {
					t.Fatal("the child never came there")
				}
				must(t, runScenario(t, dir))
				checkScenario(t, dir)
			})
		}
	}
}

func runScenario(t *testing.T, dir string, env ...string) error {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), roleEnv+"=scenario", dirEnv+"="+dir), env...)
	cmd.Stderr = os.Stderr
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() > 0 {
		t.Fatalf("the child failed: %v", err)
	}
	return err
}

func prepare(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	drop := filepath.Join(dir, "drop")
	must(t, os.Mkdir(drop, 0o700))
	for _, sub := range []string{"pending", "stage"} {
		must(t, os.Mkdir(filepath.Join(drop, sub), 0o700))
	}
	for name, content := range map[string]string{
		"pending/named.json":            `{"id":"named","payload":{"n":"named"}}`,
		"pending/unnamed.json":          `{"n":"unnamed"}`,
		"pending/" + longName + ".json": `{"n":"long"}`,
		"pending/x.json":                `{"id":"x1","payload":{"n":"x1"}}`,
		"pending/half.json":             `{"n":`,
		"pending/wrong.json":            `[]`,
		"stage/x.json":                  `{"id":"x2","payload":{"n":"x2"}}`,
		"stage/half.json":               `{"n":`,
	} {
		must(t, os.WriteFile(filepath.Join(drop, name), []byte(content), 0o600))
	}
	return dir
}

// scenario is done by the child. It can be repeated from any point on.
func scenario(dir string) error {
	ctx, drop := context.Background(), filepath.Join(dir, "drop")
	q, err := openQueue(dir)
	if err != nil {
		return err
	}
	now := time.Now()
	f, err := New(Options{Dir: drop, Tasks: q, Log: q, Origin: q, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return now }})
	if err != nil {
		return err
	}
	rounds := func() {
		for range 12 {
			f.round(ctx)
			now = now.Add(10 * time.Second)
		}
	}
	rounds()
	if _, err := Put(drop, File{ID: "put", Payload: json.RawMessage(`{"n":"put"}`)}); err != nil {
		return err
	}
	if err := PutCancel(drop, "named", "me", "because"); err != nil {
		return err
	}
	if err := unstage(drop, "x.json", "half.json"); err != nil {
		return err
	}
	rounds()
	if err := endAll(ctx, q, func(id string) bool { return id == "x2" }); err != nil {
		return err
	}
	rounds()
	if err := endAll(ctx, q, func(string) bool { return true }); err != nil {
		return err
	}
	rounds()
	f.close()
	return q.Close()
}

func unstage(drop string, names ...string) error {
	for _, name := range names {
		err := os.Rename(filepath.Join(drop, "stage", name), filepath.Join(drop, "pending", name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func endAll(ctx context.Context, q onQueue, which func(id string) bool) error {
	list, _, err := q.List(task.Filter{})
	for _, t := range list {
		if err == nil && which(t.Spec.ID) {
			err = q.end(ctx, t.Spec.ID)
		}
	}
	return err
}

func checkScenario(t *testing.T, dir string) {
	t.Helper()
	q, err := openQueue(dir)
	must(t, err)
	defer q.Close()
	list, _, err := q.List(task.Filter{})
	must(t, err)
	var tasks []string
	for _, tk := range list {
		var p struct{ N string }
		must(t, json.Unmarshal(tk.Spec.Payload, &p))
		tasks = append(tasks, p.N)
	}
	slices.Sort(tasks)
	if want := []string{"long", "named", "put", "unnamed", "x1", "x2"}; !slices.Equal(tasks, want) {
		t.Errorf("tasks %q, want %q", tasks, want)
	}
	drop := filepath.Join(dir, "drop")
	outcomes := map[string]string{}
	for name, content := range readAllFiles(t, filepath.Join(drop, "done")) {
		var r struct {
			ID, Status string
			Payload    struct{ N string }
			N          string
		}
		if err := json.Unmarshal([]byte(content), &r); err != nil {
			t.Errorf("done/%s: %v", name, err)
		}
		outcomes[name] = r.Payload.N + r.N + " " + r.Status
		if strings.HasPrefix(name, "x~") || strings.HasPrefix(name, "0") {
			delete(outcomes, name)
			outcomes[name[:1]] = r.Payload.N + " " + r.Status
		}
	}
	for name, want := range map[string]string{
		"named.json": "named failed", "unnamed.json": "unnamed completed", longName + ".json": "long completed",
		"x.json": "x2 completed", "0": "put completed", "x": "x1 completed",
	} {
		if outcomes[name] != want {
			t.Errorf("the outcome of %.20s is %q, want %q", name, outcomes[name], want)
		}
	}
	if len(outcomes) != 6 {
		t.Errorf("outcomes %v", outcomes)
	}
	checkRejected(t, readAllFiles(t, filepath.Join(drop, "rejected")))
	for _, sub := range []string{"pending", "taken", "requests"} {
		for name := range readAllFiles(t, filepath.Join(drop, sub)) {
			if !strings.HasPrefix(name, ".") { // of a Put that was killed
				t.Errorf("%s has %s", sub, name)
			}
		}
	}
}

// checkRejected: three files, each with its content and a reason.
func checkRejected(t *testing.T, rejected map[string]string) {
	t.Helper()
	var contents []string
	for name, content := range rejected {
		if base, ok := strings.CutSuffix(name, ".json"); ok {
			contents = append(contents, content)
			if len(rejected[base+".error"]) < 20 {
				t.Errorf("rejected/%s has no reason", name)
			}
		} else if _, there := rejected[strings.TrimSuffix(name, ".error")+".json"]; !there {
			t.Errorf("rejected has %s alone", name)
		}
	}
	slices.Sort(contents)
	if want := []string{"[]", `{"n":`, `{"n":`}; !slices.Equal(contents, want) {
		t.Errorf("rejected are %q", contents)
	}
}

func readAllFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	list, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range list {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		must(t, err)
		out[e.Name()] = string(b)
	}
	return out
}
