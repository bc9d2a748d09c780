package cli

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// A task runs in the environment in which it was submitted, as if it had been
// started there; but the environment of a shell also holds tokens and
// passwords, and what is submitted is stored on disk. So only what is listed
// here is taken along, and what somebody adds with --env.
//
// Left out on purpose: XDG_RUNTIME_DIR, SSH_AUTH_SOCK, DISPLAY and the like,
// which belong to a login that may be over when the task starts; TERM, since
// there is no terminal; and everything that holds secrets by convention
// (*_TOKEN, *_KEY, *_PASSWORD).

// environmentTaken names the variables that are taken along when they are set.
var environmentTaken = []struct {
	about string
	names []string
}{
	{"who and where", []string{"HOME", "LOGNAME", "PATH", "SHELL", "TMPDIR", "USER"}},
	{"language and time", []string{"LANG", "LANGUAGE", "LC_*", "TZ"}},
	{"Python", []string{"CONDA_*", "PYTHONHASHSEED", "PYTHONHOME", "PYTHONPATH", "PYTHONUNBUFFERED", "VIRTUAL_ENV"}},
	{"libraries and compilers", []string{"CPATH", "LD_LIBRARY_PATH", "LIBRARY_PATH", "MANPATH", "PKG_CONFIG_PATH"}},
	{"environment modules", []string{"LMOD_*", "LOADEDMODULES", "MODULEPATH", "MODULESHOME", "_LMFILES_"}},
	{"processors", []string{"MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "OMP_*", "OPENBLAS_NUM_THREADS", "TOKENIZERS_PARALLELISM"}},
	{"GPUs", []string{"CUDA_DEVICE_ORDER", "CUDA_HOME", "CUDA_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"}},
	{"caches of models and data", []string{
		"HF_DATASETS_CACHE", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TORCH_HOME", "TRANSFORMERS_CACHE",
		"XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME",
	}},
}

// ambient returns what a task takes along, sorted by name: what is listed above,
// as far as it is set.
func ambient(env Env) []string {
	taken := map[string]string{}
	for _, kv := range env.Environ {
		if k, v, ok := strings.Cut(kv, "="); ok && isTaken(k) {
			taken[k] = v
		}
	}
	return sortedVars(taken)
}

// chosen returns the variables that extra asks for, sorted by name. An entry K=V
// sets a variable, an entry K takes it along; one that is not set is an error,
// since leaving it out silently would surface much later.
func chosen(env Env, extra []string) ([]string, error) {
	taken := map[string]string{}
	for _, e := range extra {
		k, v, set := strings.Cut(e, "=")
		if err := checkVariable(k); err != nil {
			return nil, usagef("--env: %s", err)
		}
		if !set {
			if v, set = env.lookupEnv(k); !set {
				return nil, usagef("--env %s takes the variable along, but it is not set here; write --env %s=VALUE to set it", k, k)
			}
		}
		taken[k] = v
	}
	return sortedVars(taken), nil
}

// checkVariable says what is wrong with the name of a variable. The system takes
// nearly any, but shells and many programs pass over or drop those that are no
// identifiers, and a slip such as --env "A B=1" would surface much later.
func checkVariable(name string) error {
	switch {
	case name == "":
		return errors.New("it has no name; write NAME=VALUE, or NAME to take it along")
	case !variableName.MatchString(name):
		return fmt.Errorf("%q is no name of a variable; it has letters, digits and _, and no digit first", name)
	}
	return nil
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func sortedVars(vars map[string]string) []string {
	out := make([]string, 0, len(vars))
	for _, k := range slices.Sorted(maps.Keys(vars)) {
		out = append(out, k+"="+vars[k])
	}
	return out
}

func isTaken(name string) bool {
	for _, group := range environmentTaken {
		for _, n := range group.names {
			prefix, open := strings.CutSuffix(n, "*")
			if name == n || open && strings.HasPrefix(name, prefix) {
				return true
			}
		}
	}
	return false
}
