package arch

import (
	"fmt"
	"go/ast"
	"go/token"
	"maps"
	"slices"
	"testing"
)

// waiters lists the packages that start goroutines, and who waits for them to
// end. Every goroutine has an owner who does: a package that wants to start one
// adds its row, and with it the answer.
var waiters = map[string]string{
	"cmd/...":                     "main returns when Run has returned, and Run waits for all it started",
	"cmd/gpu-probe":               "the process's end: a call of the driver may never return, and is why this is a process",
	"envmgr/...":                  "the supervisor's Run returns after its services' goroutines have",
	"envmgr/probe":                "Run takes back what it hung on its context before it returns",
	"internal/api/...":            "the server's Serve waits for what it serves, and for the feed",
	"internal/app":                "Run waits for every part, in reverse order of their start",
	"internal/backendtest":        "the suite's cleanup waits for the watch it started",
	"internal/cli/...":            "the command waits before it returns",
	"internal/container/...":      "Watch returns when its readers have",
	"internal/containerinit":      "the end of the program, which is that of its container",
	"internal/docker":             "Follow waits for the one that looks at everything while events come in",
	"internal/dockertest":         "the cleanup of the test waits for registries and proxies; a call into the engine's network for itself",
	"internal/dockertest/standin": "the end of the program, which is that of its container",
	"internal/doctor":             "Examine waits for its checks",
	"internal/dropfolder":         "Run waits for those that watch the folder and the event log, and each batch for those that sync its files",
	"internal/engine/...":         "Run waits for the backends' watches",
	"internal/events/...":         "Run waits for every publisher",
	"internal/gpuprobe":           "Run waits for the one that reads what the probe says",
	"internal/process/...":        "Watch for the daemon's side; in the supervisor, its own Run",
	"internal/worker":             "Run waits for its loops and for the runner's watch",
	"internal/workers":            "Watch waits for the one that hears calls through files, and that for those that it answers; and for the one that asks Slurm",
	"internal/workflow/...":       "Run waits for its followers",
	"internal/rpc":                "the server's Serve waits for listeners and streams, the client's Close for those that attend calls",
	"internal/runtimedir":         "Listener.Close waits for the one that looks after its socket",
	"internal/taskfiles":          "Log.Wait takes back what it hung on its context before it returns",
	"internal/tryopen":            "Run takes its deadline back before it returns",
	"queue":                       "Close waits for the committer and for the heartbeat",
	"slurm/...":                   "Watch returns when its polls have",
}

// TestGoroutinesHaveOwners looks for go statements, and for the calls that start
// a goroutine as well: Go of a wait group, AfterFunc of time and of context.
// Tests are not looked at: goleak watches theirs.
func TestGoroutinesHaveOwners(t *testing.T) {
	complain(t, strays(source(t)))
}

func TestGoroutineRuleBites(t *testing.T) {
	const text = `package p
		func f(wg group, c clock) {
			go f()
			wg.Go(f)
			c.AfterFunc(1, f)
			c.Go()
		}`
	expect(t, strays(sample(t, map[string]string{
		"internal/task/a.go":      text,
		"internal/task/a_test.go": text,
		"queue/a.go":              text,
		"slurm/template/a.go":     text,
	})), "internal/task/a.go:3", "internal/task/a.go:4", "internal/task/a.go:5")
}

// strays returns where goroutines are started for which nobody is named.
func strays(tr *tree) []string {
	patterns := keys(waiters)
	var problems []string
	for _, p := range tr.all() {
		if matchesAny(patterns, p.dir) {
			continue
		}
		for _, f := range p.files {
			if f.test {
				continue
			}
			for _, pos := range starts(f.ast) {
				problems = append(problems, fmt.Sprintf("%s: starts a goroutine, but nobody is named who waits for it: add %q to waiters", tr.at(pos), p.dir))
			}
		}
	}
	return problems
}

// starts returns where a file starts goroutines.
func starts(f *ast.File) []token.Pos {
	var found []token.Pos
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			found = append(found, n.Pos())
		case *ast.CallExpr:
			sel, ok := n.Fun.(*ast.SelectorExpr)
			if ok && (sel.Sel.Name == "Go" && len(n.Args) == 1 || sel.Sel.Name == "AfterFunc" && len(n.Args) == 2) {
				found = append(found, n.Pos())
			}
		}
		return true
	})
	return found
}

// keys returns the sorted keys of a table.
func keys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
