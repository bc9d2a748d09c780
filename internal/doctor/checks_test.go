package doctor

import (
	"slices"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/config"
)

func TestConfiguration(t *testing.T) {
	p := patient(t)
	want(t, "configuration", p, OK, "no configuration file")
	cfg := p.Load().Config
	_, err := config.Load(config.Given{Cwd: cfg.Workspace, ConfigFlag: "/none.toml"})
	p.Load = func() Loaded { return Loaded{Config: cfg, Usable: true, Err: err} }
	want(t, "configuration", p, Problem, "/none.toml: there is no such file", "holds for the configuration without the file")

	p = patient(t, "ORCHESTRATOR_GRPC_ADRR=x", "KAFKA_BOOTSTRAP_SERVERS=k:9092")
	want(t, "configuration", p, Warning, "the variable ORCHESTRATOR_GRPC_ADRR is set, and nothing reads it", "if ORCHESTRATOR_GRPC_ADDR was meant")
	want(t, "configuration", p, Note, "KAFKA_BOOTSTRAP_SERVERS is set and has no effect", "not in this release yet")

	cfg.CPUMilli, cfg.MemBytes = 1e9, 1<<60
	p.Load = func() Loaded { return Loaded{Config: cfg, Usable: true} }
	want(t, "configuration", p, Warning, "capacity.cpus is 1e+06, and this machine has")
	want(t, "configuration", p, Warning, "capacity.memory is 1.0 EiB, and this machine has")
}

// TestExamine: each check tells once, and its findings carry its name.
func TestExamine(t *testing.T) {
	var told []string
	Examine(t.Context(), patient(t), func(name string, found []Finding) {
		told = append(told, name)
		for _, f := range found {
			if f.Name != name || f.Text == "" || !slices.Contains(Statuses, f.Status) {
				t.Errorf("%s tells %+v", name, f)
			}
		}
	})
	slices.Sort(told)
	var names []string
	for _, c := range Checks() {
		names = append(names, c.Name)
	}
	slices.Sort(names)
	if !slices.Equal(told, names) {
		t.Errorf("told %q, want %q", told, names)
	}
}

func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range checks {
		if seen[c.name] || c.about == "" || c.asks == "" || c.problem+c.warning+c.note == "" {
			t.Errorf("%s is there twice, or lacks something", c.name)
		}
		if strings.ToLower(c.name) != c.name || strings.ContainsAny(c.name, " -.") {
			t.Errorf("the name %q is not as those of JSON", c.name)
		}
		if c.after != "" && !seen[c.after] {
			t.Errorf("%s stands before %s, which it waits for", c.name, c.after)
		}
		seen[c.name] = true
	}
}

// TestSilent: what waits for a check that hangs is not said to hang as well.
func TestSilent(t *testing.T) {
	told := map[string]bool{}
	for _, c := range checks {
		told[c.name] = true
	}
	if found := Silent(told, ""); found != nil {
		t.Errorf("all have told, and yet %s", textOf(found))
	}
	told["space"] = false
	wantIn(t, Silent(told, "/scratch/q"), Problem, "no answer within 5s from the file system of the queue (/scratch/q)", "mount, df")
	told["space"], told["owner"], told["socket"], told["ports"] = true, false, false, false
	if found := Silent(told, "/q"); len(found) != 1 || found[0].Name != "owner" || !strings.Contains(found[0].Text, "not looked at") {
		t.Errorf("%s", textOf(found))
	}
	if found := Silent(map[string]bool{"login": true, "slurm": true}, ""); found[0].Name != "configuration" || len(found) != 1+len(hostChecks())-2 {
		t.Errorf("%s", textOf(found))
	}
}

// hostChecks are those that need no configuration.
func hostChecks() []string {
	var out []string
	for _, c := range checks {
		if c.after == "" && c.name != nameConfiguration {
			out = append(out, c.name)
		}
	}
	return out
}
