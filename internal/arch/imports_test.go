package arch

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A rule says what one package, or one family of packages ("slurm/..."), may
// import of this project. Of several that match, the longest pattern counts.
type rule struct {
	pkg string
	may []string
	// tests is what its _test.go files may import besides.
	tests []string
	// only, when given, is who may import it, whatever the importer's row says.
	only []string
	// helper marks packages for tests: only _test.go files and other helpers
	// import them, from anywhere, and only they may use package testing.
	helper bool
	why    string
}

// domain is what every part of the middle layer stands on.
var domain = []string{"internal/scheduler", "internal/task", "gpu"}

// parts is the middle layer. Its packages do not import one another: they meet
// through small interfaces declared by the one that calls, and internal/app puts
// them together.
var parts = []string{
	"queue", "internal/container", "internal/process", "slurm", "internal/engine", "internal/worker", "internal/workers",
	"internal/api", "internal/dropfolder", "internal/workflow", "internal/events", "internal/metrics", "internal/gpuprobe", "internal/gpupool", "envmgr",
}

// leaves are small packages that every part may stand on: they know none of the
// parts and decide nothing for them.
var leaves = []string{"internal/directive", "internal/envelope", "internal/failpoint", "internal/host", "internal/lease", "internal/mounts", "internal/payload", "internal/runtimedir", "internal/shellword", "internal/spelling", "internal/taskfiles", "internal/taskid", "internal/tryopen"}

// anyPart is for internal/app, and for the tests of all above and in the middle
// layer: the real queue in a temporary directory is a better stand-in than a fake.
var anyPart = concat(parts, families(parts), domain, leaves, []string{"internal/access", "internal/config", "internal/docker", "internal/doors", "internal/rpc", "internal/services", "internal/version", "proto/..."})

// command is what a command may use. It is a caller like any other, so the
// client of internal/api is in it, and the parts are not.
var command = concat(domain, leaves, []string{
	"internal/access", "internal/api/...", "internal/app", "internal/cli/...", "internal/config", "internal/doctor", "internal/services", "internal/version", "proto/...",
})

// supervisor is for the binaries that run themselves again as the process
// supervisor.
var supervisor = []string{"internal/process"}

// rules is the table of allowed imports, from the top down:
//
//	cmd -> internal/app -> parts -> internal/scheduler -> internal/task -> gpu
var rules = []rule{
	{pkg: "cmd/...", may: command, tests: anyPart, why: "thin: flags and signals, then one Run; what it runs is built by internal/app"},
	{pkg: "cmd/dspy-agent", may: concat(command, supervisor), tests: anyPart, why: "as every command, and the supervisor is started from this binary"},
	{pkg: "cmd/orchestrator", may: concat(command, supervisor), tests: anyPart, why: "as every command, and the supervisor is started from this binary"},
	{pkg: "cmd/dspy-init", may: []string{"internal/containerinit"}, why: "runs in any image: it is to be small, and quick to start"},
	{pkg: "cmd/gpu-probe", may: []string{"gpu", "gpu/nvml", "internal/version"}, why: "the only cgo: a driver that hangs costs this child and nothing else"},
	{pkg: "internal/cli/...", may: concat(command, []string{"internal/cli/..."}), tests: anyPart, why: "what the commands of the binaries do"},
	{pkg: "internal/app", may: anyPart, why: "builds the parts, starts them, stops them in reverse order"},

	{pkg: "queue", may: concat(domain, leaves, []string{"queue/queuepb"}), tests: anyPart, why: "storage; its records are queue/queuepb"},
	{pkg: "queue/queuepb", only: []string{"queue"}, why: "generated: records on disk"},
	{pkg: "internal/process", may: concat(domain, leaves, []string{"internal/process/supervisorpb"}), tests: anyPart, why: "backend; talks to its supervisor in supervisorpb"},
	{pkg: "internal/process/supervisorpb", only: []string{"internal/process"}, why: "generated: the supervisor's protocol"},
	{pkg: "internal/container/...", may: concat(domain, leaves, []string{"internal/container/...", "internal/containerinit", "internal/docker"}), tests: anyPart, why: "backend; asks container engines through internal/docker"},
	{pkg: "internal/containerinit", may: []string{"internal/taskfiles"}, only: []string{"cmd/dspy-init", "internal/container"}, why: "leaf: the first process of a container, and its record; whatever it imports starts with every container"},
	{pkg: "internal/docker", only: []string{"internal/app", "internal/container", "internal/doctor", "envmgr", "envmgr/api", "envmgr/enginetest"}, why: "leaf: speaks to container engines, for the backend and for the supervisor of services"},
	{pkg: "slurm/...", may: concat(domain, leaves, []string{"slurm/..."}), tests: anyPart, why: "backend"},
	{pkg: "internal/worker", may: concat(domain, leaves), tests: anyPart, why: "a worker's own half; what runs tasks, and how the owner is reached, are plugged in"},
	{pkg: "internal/workers", may: concat(domain, leaves), tests: anyPart, why: "backend; its places are workers"},
	{pkg: "internal/engine/...", may: concat(domain, leaves, []string{"internal/engine/..."}), tests: anyPart, why: "moves tasks; declares what it needs of the others"},
	{pkg: "internal/api/...", may: concat(domain, leaves, []string{"internal/access", "internal/api/...", "internal/rpc", "proto/..."}), tests: anyPart, why: "the only place where the orchestrator's wire meets the domain"},
	{pkg: "internal/dropfolder", may: concat(domain, leaves), tests: anyPart, why: "a door made of files; declares what it needs of the queue"},
	{pkg: "internal/workflow/...", may: concat(domain, leaves, []string{"internal/workflow/..."}), tests: anyPart, why: "graphs of tasks"},
	{pkg: "internal/events/...", may: concat(domain, leaves, []string{"internal/events/..."}), tests: anyPart, why: "publishes the event log"},
	{pkg: "internal/gpuprobe", may: concat(domain, leaves), tests: anyPart, why: "what is known of this machine's GPUs now; keeps gpu-probe running"},
	{pkg: "internal/gpupool", may: concat(domain, leaves), tests: anyPart, why: "this machine's GPUs as they are given out: what is remembered of them, and the locks; it is shown what gpuprobe sees"},
	{pkg: "internal/metrics", may: domain, tests: anyPart, why: "all numbers of the process; it is told them, and asks for nothing but counts"},
	{pkg: "envmgr/...", may: concat(domain, leaves, []string{"envmgr/...", "internal/docker", "internal/access", "internal/doors", "internal/rpc", "proto/..."}), tests: anyPart, why: "the second daemon: supervises services and serves its own contract"},
	{pkg: "envmgr/probe", why: "leaf: whether a service answers; it knows services by their protocols, and nothing of us"},

	{pkg: "internal/scheduler", may: []string{"internal/task", "gpu"}, why: "pure"},
	{pkg: "internal/task", may: []string{"gpu"}, why: "pure; the domain knows nobody above it"},
	{pkg: "gpu", why: "pure values and rules"},
	{pkg: "gpu/nvml", may: []string{"gpu"}, only: []string{"cmd/gpu-probe"}, why: "the driver's answers as a gpu.Snapshot"},

	{pkg: "proto/...", may: []string{"proto/..."}, why: "generated: the contract"},
	{pkg: "internal/access", may: []string{"internal/task"}, why: "who may come in over TCP, for servers and clients of both daemons; it knows none of them"},
	{pkg: "internal/doors", may: []string{"internal/access", "internal/task"}, tests: []string{"internal/rpc"}, why: "opens the TCP doors of both daemons; it knows none of them"},
	{pkg: "internal/rpc", may: []string{"internal/access", "internal/host", "internal/runtimedir", "internal/task"}, tests: []string{"proto/..."}, why: "the wire of both daemons, whatever the services on it; it knows none of them"},
	{pkg: "internal/config", may: []string{"internal/task", "internal/directive", "internal/spelling", "gpu"}, why: "for internal/app and cmd: others are given values, not files; it speaks the domain's words and error codes"},
	{pkg: "internal/services", may: []string{"internal/config", "internal/spelling", "envmgr", "envmgr/probe"}, tests: []string{"internal/task"}, why: "for internal/app and internal/cli: what the configuration says about services, as env-manager takes it; neither of the two knows the other"},
	{pkg: "internal/doctor", may: []string{"internal/access", "internal/config", "internal/docker", "internal/host", "internal/mounts", "internal/runtimedir", "internal/task", "slurm"}, why: "for internal/cli: what can be found out about a set-up from outside the daemon"},
	{pkg: "internal/version", why: "leaf, for internal/app and cmd: others are given the string"},
	{pkg: "internal/failpoint", why: "leaf: named points at which tests kill the process"},
	{pkg: "internal/host", why: "leaf: which machine, boot and process something is, who is at the other end, who holds a lock"},
	{pkg: "internal/lease", may: []string{"internal/host", "internal/task"}, why: "leaf: what a queue's owner and its workers say to each other, and what is in the folder that they share"},
	{pkg: "internal/mounts", why: "leaf: what file system a path is on, without touching it"},
	{pkg: "internal/payload", may: []string{"internal/task", "internal/spelling"}, why: "leaf: reads what is to be run out of a payload, the same way for every door"},
	{pkg: "internal/envelope", may: []string{"internal/payload", "internal/spelling", "internal/task"}, why: "leaf: reads what a JSON document submits, the same way for HTTP and the drop folder"},
	{pkg: "internal/taskfiles", may: []string{"internal/task"}, why: "leaf: where the files of attempts are, and how they are read; two backends and the server of logs need the same"},
	{pkg: "internal/taskid", tests: []string{"internal/task"}, why: "leaf: ids for tasks, made by the command line and by the queue alike"},
	{pkg: "internal/tryopen", why: "leaf: a child that tries what may hang; the binaries run it under a hidden argument"},
	{pkg: "internal/runtimedir", may: []string{"internal/task"}, why: "leaf: where sockets and locks live; both ends must find the same place"},
	{pkg: "internal/shellword", why: "leaf: any text as one word of a shell, for those who write scripts and those who say what to type"},
	{pkg: "internal/spelling", why: "leaf: the word that somebody meant who mistyped one"},

	{pkg: "internal/backendtest", helper: true, may: concat(domain, leaves, []string{"internal/engine"}), why: "the one suite that every backend passes"},
	{pkg: "internal/directive", why: "leaf: the alphabet of #SBATCH lines; the configuration refuses what the backend would"},
	{pkg: "internal/slurmtest", helper: true, why: "clusters of a test's own"},
	{pkg: "internal/dockertest", helper: true, why: "engines, images and a registry of a test's own"},
	{pkg: "internal/dockertest/standin", why: "the program in containers of tests"},
	{pkg: "internal/servicetest", helper: true, why: "images of the services that a supervisor is to run, real and stand-ins"},
	{pkg: "internal/servicetest/kafka", why: "the broker in containers of tests"},
	{pkg: "internal/gputest", helper: true, why: "a machine with GPUs, for tests on machines without"},
	{pkg: "internal/hosttest", helper: true, why: "processes that take themselves for some on other hosts"},
	{pkg: "internal/e2e/...", tests: concat(anyPart, command), why: "tests of the product from outside, with the real binaries"},
	{pkg: "internal/arch", why: "these tests"},
}

// A fence keeps an outside module, or a package of the standard library, to the
// packages named. "x" stands for x and everything below it.
type fence struct {
	module string
	pkgs   []string
	tests  bool // _test.go files may import it anywhere
	why    string
}

var fences = []fence{
	{module: "go.etcd.io/bbolt", pkgs: []string{"queue"}, why: "one package knows how tasks are stored"},
	{module: "github.com/docker/docker", pkgs: []string{"internal/docker", "internal/dockertest"}, why: "the module is frozen: moving to its successor must touch little"},
	{module: "github.com/mdlayher/netlink", pkgs: []string{"internal/access"}, why: "one package asks the kernel who owns a connection"},
	{module: "github.com/NVIDIA/go-nvml", pkgs: []string{"gpu/nvml"}, why: "cgo stays in one binary"},
	{module: "github.com/urfave/cli", pkgs: []string{"cmd/...", "internal/cli/..."}, why: "flags belong to the commands"},
	{module: "github.com/compose-spec/compose-go/v2", pkgs: []string{"envmgr/compose"}, why: "compose files are one way to define services"},
	{module: "github.com/twmb/franz-go", pkgs: []string{"internal/events/...", "internal/servicetest/kafka"}, tests: true, why: "Kafka is one publisher of the event log"},
	{module: "github.com/pelletier/go-toml", pkgs: []string{"internal/config", "envmgr/..."}, why: "files of settings are read in one place per binary, with lines in every error"},
	{module: "github.com/prometheus", pkgs: []string{"internal/metrics"}, tests: true, why: "one place has the names of metrics and decides what may be a label"},
	{module: "google.golang.org/grpc", pkgs: []string{
		"proto/...", "internal/access", "internal/api/...", "internal/rpc", "internal/app", "internal/cli/...", "cmd/...", "envmgr/...",
	}, tests: true, why: "the wire ends at the servers and the client"},

	{module: "testing", tests: true, why: "production code does not carry the test flags"},
	{module: "pgregory.net/rapid", tests: true, why: "for tests"},
	{module: "github.com/rogpeppe/go-internal", tests: true, why: "for tests"},
	{module: "go.uber.org/goleak", tests: true, why: "for tests"},
	{module: "github.com/google/go-containerregistry", tests: true, why: "for tests"},
	{module: "github.com/chromedp", tests: true, why: "for tests"},
	{module: "github.com/hanwen/go-fuse", tests: true, why: "for tests"},
}

// pure packages import no outside module (but in tests), and none of these: no
// I/O, no logger, nothing that waits, nothing that differs from run to run.
// golangci-lint forbids them the functions of package time that read the clock.
var (
	purePkgs   = []string{"gpu", "internal/scheduler", "internal/task"}
	impureStds = []string{
		"context", "crypto/rand", "io/...", "log/...", "math/rand/...", "net", "net/http/...",
		"os/...", "plugin", "runtime/...", "syscall", "testing/...", "unsafe",
	}
	// pureExceptions: package -> import -> why.
	pureExceptions = map[string]map[string]string{
		"internal/task": {"syscall": "names and numbers of signals; nothing is called"},
	}
)

// TestImports holds every import of every file against the tables above.
func TestImports(t *testing.T) {
	tr := source(t)
	for _, p := range tr.all() {
		r, ok := ruleFor(p.dir)
		if !ok {
			t.Errorf("package %s has no row in internal/arch/imports_test.go: add one that says what it may import, and why it exists", p.dir)
			continue
		}
		for _, f := range p.files {
			for _, spec := range f.ast.Imports {
				imp := importPath(spec)
				var problem string
				if dir, ok := tr.own(imp); ok {
					problem = checkOwn(r, p.dir, dir, f.test)
				} else {
					problem = checkOutside(r, p.dir, imp, f.test)
				}
				if problem != "" {
					t.Errorf("%s: %s", tr.at(spec.Pos()), problem)
				}
			}
		}
	}
}

// checkOwn says what is wrong when the package from imports the package to of
// this project, or "".
func checkOwn(r rule, from, to string, test bool) string {
	if from == to { // package foo_test
		return ""
	}
	target, ok := ruleFor(to)
	switch {
	case ok && target.helper:
		if test || r.helper {
			return ""
		}
		return fmt.Sprintf("%s imports %s, which is for tests", from, to)
	case ok && target.only != nil && !slices.Contains(target.only, from):
		return fmt.Sprintf("%s may not import %s (%s), which is for %s alone", from, to, target.why, strings.Join(target.only, ", "))
	case matchesAny(r.may, to) || test && matchesAny(r.tests, to):
		return ""
	}
	allowed := "nothing of the project"
	if len(r.may) > 0 {
		allowed = strings.Join(r.may, ", ")
	}
	return fmt.Sprintf("%s (%s) may not import %s; it may import %s", from, r.why, to, allowed)
}

// checkOutside says what is wrong when the package from imports imp, which is
// not of this project, or "".
func checkOutside(r rule, from, imp string, test bool) string {
	for _, fc := range fences {
		if !matches(fc.module+"/...", imp) || test && fc.tests || fc.tests && r.helper || matchesAny(fc.pkgs, from) {
			continue
		}
		allowed := "in tests"
		if len(fc.pkgs) > 0 {
			allowed = "by " + strings.Join(fc.pkgs, ", ")
		}
		return fmt.Sprintf("%s imports %s, which may only be used %s: %s", from, imp, allowed, fc.why)
	}
	if test || !slices.Contains(purePkgs, from) || pureExceptions[from][imp] != "" {
		return ""
	}
	if outsideModule(imp) || matchesAny(impureStds, imp) {
		return fmt.Sprintf("%s imports %s, but is pure: only values in, only values out", from, imp)
	}
	return ""
}

// outsideModule says whether an import path is of neither the standard library
// nor this project: its first element is a host name.
func outsideModule(imp string) bool {
	first, _, _ := strings.Cut(imp, "/")
	return strings.Contains(first, ".")
}

// ruleFor returns the row for a package: that with the longest pattern.
func ruleFor(dir string) (rule, bool) {
	best, found := rule{}, false
	for _, r := range rules {
		if matches(r.pkg, dir) && (!found || specific(r.pkg) > specific(best.pkg)) {
			best, found = r, true
		}
	}
	return best, found
}

// specific orders patterns: longer is more specific, and a package's own name
// beats the family of that name.
func specific(pattern string) int {
	prefix, deep := strings.CutSuffix(pattern, "/...")
	if deep {
		return 2 * len(prefix)
	}
	return 2*len(prefix) + 1
}

// TestRules keeps the table itself in order.
func TestRules(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range rules {
		if seen[r.pkg] {
			t.Errorf("two rows for %s", r.pkg)
		}
		seen[r.pkg] = true
		if r.why == "" {
			t.Errorf("the row for %s gives no reason", r.pkg)
		}
	}
	for _, p := range parts {
		if _, ok := ruleFor(p); !ok {
			t.Errorf("no row for %s", p)
		}
		for _, other := range parts {
			if r, _ := ruleFor(p); p != other && matchesAny(r.may, other) {
				t.Errorf("%s may import %s: parts of the middle layer must not know one another", p, other)
			}
		}
	}
	for _, fc := range fences {
		if fc.why == "" {
			t.Errorf("the fence around %s gives no reason", fc.module)
		}
	}
}

// TestRulesBite feeds the checks with imports that must be refused, so that a
// slip in the tables cannot let everything through.
func TestRulesBite(t *testing.T) {
	for _, tc := range []struct {
		from, imp string
		test      bool
		refused   bool
	}{
		{from: "cmd/orchestrator", imp: "internal/app"},
		{from: "cmd/orchestrator", imp: "queue", refused: true},
		{from: "cmd/gpu-probe", imp: "internal/app", refused: true},
		{from: "internal/app", imp: "queue"},
		{from: "internal/app", imp: "slurm/template"},
		{from: "internal/app", imp: "cmd/orchestrator", refused: true},
		{from: "queue", imp: "internal/task"},
		{from: "queue", imp: "queue/queuepb"},
		{from: "queue", imp: "internal/engine", refused: true},
		{from: "internal/engine", imp: "internal/metrics", refused: true},
		{from: "internal/engine", imp: "queue", refused: true},
		{from: "internal/engine", imp: "queue", test: true},
		{from: "internal/engine", imp: "queue/queuepb", test: true, refused: true},
		{from: "internal/app", imp: "queue/queuepb", refused: true},
		{from: "internal/app", imp: "gpu/nvml", refused: true},
		{from: "internal/engine", imp: "internal/backendtest", refused: true},
		{from: "internal/engine", imp: "internal/backendtest", test: true},
		{from: "internal/engine", imp: "internal/version", refused: true},
		{from: "internal/task", imp: "internal/scheduler", refused: true},
		{from: "internal/task", imp: "internal/failpoint", refused: true},
		{from: "internal/task", imp: "internal/backendtest", test: true},
		{from: "internal/scheduler", imp: "queue", test: true, refused: true},
		{from: "gpu", imp: "gpu/nvml", refused: true},
		{from: "internal/api", imp: "internal/access"},
		{from: "queue", imp: "internal/access", refused: true},
		{from: "internal/access", imp: "internal/api", refused: true},
		{from: "internal/api", imp: "internal/rpc"},
		{from: "internal/rpc", imp: "internal/api", refused: true},
		{from: "internal/app", imp: "internal/doors"},
		{from: "internal/api", imp: "internal/doors", refused: true},
		{from: "internal/doors", imp: "internal/config", refused: true},
		{from: "internal/config", imp: "queue", refused: true},
	} {
		r, ok := ruleFor(tc.from)
		if !ok {
			t.Errorf("no row for %s", tc.from)
			continue
		}
		if got := checkOwn(r, tc.from, tc.imp, tc.test); (got != "") != tc.refused {
			t.Errorf("%s -> %s (test %v): %q, want refused %v", tc.from, tc.imp, tc.test, got, tc.refused)
		}
	}
	for _, tc := range []struct {
		from, imp string
		test      bool
		refused   bool
	}{
		{from: "queue", imp: "go.etcd.io/bbolt"},
		{from: "queue", imp: "go.etcd.io/bbolt/errors"},
		{from: "internal/engine", imp: "go.etcd.io/bbolt", refused: true},
		{from: "internal/engine", imp: "go.etcd.io/bbolt", test: true, refused: true},
		{from: "internal/docker", imp: "github.com/docker/docker/client"},
		{from: "envmgr", imp: "github.com/docker/docker/client", refused: true},
		{from: "slurm", imp: "github.com/docker/docker/client", refused: true},
		{from: "internal/metrics", imp: "github.com/prometheus/client_golang/prometheus"},
		{from: "internal/engine", imp: "github.com/prometheus/client_golang/prometheus", refused: true},
		{from: "internal/engine", imp: "testing", refused: true},
		{from: "internal/engine", imp: "testing/synctest", test: true},
		{from: "internal/backendtest", imp: "testing"},
		{from: "internal/backendtest", imp: "go.etcd.io/bbolt", refused: true},
		{from: "internal/task", imp: "time"},
		{from: "internal/task", imp: "os/exec", refused: true},
		{from: "internal/scheduler", imp: "log/slog", refused: true},
		{from: "gpu", imp: "github.com/oklog/ulid/v2", refused: true},
		{from: "gpu", imp: "os", test: true},
	} {
		r, ok := ruleFor(tc.from)
		if !ok {
			t.Errorf("no row for %s", tc.from)
			continue
		}
		if got := checkOutside(r, tc.from, tc.imp, tc.test); (got != "") != tc.refused {
			t.Errorf("%s -> %s (test %v): %q, want refused %v", tc.from, tc.imp, tc.test, got, tc.refused)
		}
	}
}

// families returns "x/..." for each x.
func families(pkgs []string) []string {
	var out []string
	for _, p := range pkgs {
		out = append(out, p+"/...")
	}
	return out
}

func concat(lists ...[]string) []string { return slices.Concat(lists...) }
