package config

import (
	"maps"
	"slices"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/spelling"
)

// otherVariables are those of ours that are no settings: the command line, the
// Python package and the programs of tasks read them.
var otherVariables = []string{
	"DSPY_AGENT_SERVICE_TIMEOUT", "DSPY_AGENT_CLI_PATH", "DSPY_AGENT_SKIP_START", "DSPY_AGENT_RECONNECT_BACKOFF",
}

// ourPrefixes begin the variables that could be meant for us.
var ourPrefixes = []string{"ORCHESTRATOR_", "ENV_QUEUE", "ENV_MANAGER_", "WORKFLOW_", "DSPY_AGENT_", "KAFKA_BOOT", "KAFKA_EVENT"}

// MisspelledVariables finds variables that are set, are none of ours, and look
// like one of ours: by name, the one that was probably meant.
func MisspelledVariables(environ []string) map[string]string {
	known := map[string]bool{}
	for _, name := range otherVariables {
		known[name] = true
	}
	for _, s := range Settings() {
		for _, name := range s.Env {
			known[name] = true
		}
	}
	names := slices.Sorted(maps.Keys(known))
	found := map[string]string{}
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		ours := slices.ContainsFunc(ourPrefixes, func(p string) bool { return strings.HasPrefix(name, p) })
		if known[name] || !ours {
			continue
		}
		if meant := spelling.Nearest(name, names, 3); meant != "" {
			found[name] = meant
		}
	}
	return found
}
