//go:build failpoint

package queue_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/failpoint"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

func init() { roles["succession"] = succession } //nolint:gochecknoinits // the table of roles is what it adds to

// TestDeathWhileTheLeaseChangesHands dies at every place of acquiring a lease, of
// giving it back and of a take-over. Whoever comes next gets in, has all that was
// acknowledged, and finds nothing in its way.
func TestDeathWhileTheLeaseChangesHands(t *testing.T) {
	t.Parallel()
	for _, name := range failpoint.Names() {
		if !strings.HasPrefix(name, "lease/") && !strings.HasPrefix(name, "takeover/") {
			continue
		}
		for _, hit := range []string{"", ":2", ":3"} {
			t.Run(name+hit, func(t *testing.T) {
				t.Parallel()
				dieInSuccession(t, name, hit)
			})
		}
	}
}

func dieInSuccession(t *testing.T, name, hit string) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=succession", childDirEnv+"="+dir, failpoint.Env+"="+name+hit)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err == nil && hit == "" {
		t.Fatal("the child never came there")
	}
	if b, err := os.ReadFile(filepath.Join(dir, "CURRENT")); err == nil && !strings.HasPrefix(name, "lease/") {
		all := databases(t, dir)
		if newest := filepath.Base(all[len(all)-1]); newest != strings.TrimSpace(string(b)) {
			t.Errorf("%s looks like the newest database, and was never in use", newest)
		}
	}
	opts := queue.Options{Dir: dir, TakeOver: true}.OnMount("nfs4").WithTerms(quick)
	q := openQueue(t, opts)
	for id := range strings.FieldsSeq(string(out)) {
		if _, err := q.Lookup(id); err != nil {
			t.Errorf("%s was acknowledged: %v", id, err)
		}
	}
	if len(out) > 0 && q.Fence() < 2 {
		t.Errorf("the fence is %d", q.Fence())
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.next")); len(left) > 0 {
		t.Errorf("there are %v", left)
	}
	closeQueue(t, q)
	if left, _ := filepath.Glob(filepath.Join(dir, "owner.*")); len(left) > 0 {
		t.Errorf("after closing there are %v", left)
	}
}

// succession becomes the owner where there is none, after one that is dead, and after
// one that may not be, and says which tasks it has stored.
func succession(dir string) error {
	opts := queue.Options{Dir: dir, TakeOver: true}.OnMount("nfs4").WithTerms(quick)
	former := []*queue.Owner{nil, {}, {}}
	*former[2] = elsewhere()
	for i, o := range former {
		if o != nil {
			b, err := json.Marshal(o) // the one in the middle names nobody
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, "owner.json"), b, 0o600)
			}
			if err != nil {
				return err
			}
		}
		q, err := queue.Open(context.Background(), opts)
		if err != nil {
			return err
		}
		id := []string{"first", "second", "third"}[i]
		if _, err := q.Submit(context.Background(), []*task.Spec{spec(id)}); err != nil {
			return err
		}
		if _, err := os.Stdout.WriteString(id + "\n"); err != nil {
			return err
		}
		if err := q.Close(); err != nil {
			return err
		}
	}
	return nil
}
