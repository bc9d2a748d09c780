package template

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/directive"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// values are what ${NAME} stands for.
type values struct {
	payload map[string]json.RawMessage
	known   map[string]string // what the scheduler knows, where the payload does not say it
	own     map[string]string // what the scheduler says, whatever the payload does
}

func valuesOf(s *task.Spec) (values, error) {
	payload, err := members(s.Payload)
	if err != nil {
		return values{}, fmt.Errorf("the payload is no JSON object: %w", err)
	}
	v := values{payload: payload, known: map[string]string{"TASK_CLASS": s.Class}}
	grace := s.Grace
	if grace <= 0 {
		grace = task.DefaultGrace
	}
	// A number, and so fit for bash to reckon with, which runs what stands in other texts.
	v.own = map[string]string{"TASK_ID": s.ID, "TASK_GRACE": strconv.FormatInt(int64((grace+time.Second-1)/time.Second), 10)}
	r := s.Resources
	for name, n := range map[string]int64{
		"GPUS": int64(r.GPUs), "CPUS_PER_TASK": (r.CPUMilli + 999) / 1000, "MEMORY_GB": (r.MemBytes + 1<<30 - 1) >> 30,
	} {
		if n > 0 {
			v.known[name] = strconv.FormatInt(n, 10)
		}
	}
	if s.Timeout > 0 {
		v.known["TIME_LIMIT"] = clock(s.Timeout)
	}
	return v, nil
}

// clock is a time as Slurm writes it, rounded up to seconds.
func clock(d time.Duration) string {
	sec := int64((d + time.Second - 1) / time.Second)
	days, text := sec/86400, fmt.Sprintf("%02d:%02d:%02d", sec%86400/3600, sec%3600/60, sec%60)
	if days > 0 {
		return fmt.Sprintf("%d-%s", days, text)
	}
	return text
}

// lookup returns the value of a name. The key of the payload is the name in small letters.
func (v values) lookup(name string) (string, bool) {
	if s, ok := v.own[name]; ok {
		return s, true
	}
	raw := bytes.TrimSpace(v.payload[strings.ToLower(name)])
	if len(raw) == 0 || string(raw) == "null" {
		s, ok := v.known[name]
		return s, ok
	}
	var s string
	if raw[0] == '"' && json.Unmarshal(raw, &s) == nil {
		return s, true
	}
	return string(raw), true // a number, a truth, or JSON for a program
}

// fill puts values into the value of an option.
func (v values) fill(text string) (string, error) {
	var out strings.Builder
	for {
		before, _, found := strings.Cut(text, "${")
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		text = text[len(before):]
		n := directive.Braces(text)
		if n == 0 {
			return "", fmt.Errorf("%q has no closing brace", short(text))
		}
		s, err := v.one(text[2 : n-1])
		if err != nil {
			return "", err
		}
		out.WriteString(s)
		text = text[n:]
	}
}

// one is what stands between the braces: NAME, or NAME:-default.
func (v values) one(inside string) (string, error) {
	name, otherwise, has := strings.Cut(inside, ":-")
	if strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789") != "" || name == "" {
		return "", fmt.Errorf("${%s}: ${NAME} and ${NAME:-default} are all that is filled in", short(inside))
	}
	s, ok := v.lookup(name)
	switch {
	case ok && s != "":
		return s, nil
	case has:
		return v.fill(otherwise)
	default:
		return "", fmt.Errorf("it needs a value for %s: add %q to the payload, or write ${%s:-default} there", name, strings.ToLower(name), name)
	}
}

// maxValue is how long a value may be that becomes a variable: the kernel takes no
// program with a longer one than twice that.
const maxValue = 64 << 10

// variables are those values that a script mentions.
func (v values) variables(mentions []string) ([]string, error) {
	var out []string
	for _, name := range mentions {
		s, ok := v.lookup(name)
		switch {
		case !ok || reserved(name):
			continue
		case len(s) > maxValue:
			return nil, fmt.Errorf("%q in the payload is %d bytes long, and a variable at most %d: let the program read it from DSPY_PAYLOAD_FILE", strings.ToLower(name), len(s), maxValue)
		case strings.ContainsRune(s, 0):
			return nil, fmt.Errorf("%q in the payload has a NUL character in it, which no variable can have", strings.ToLower(name))
		}
		out = append(out, name+"="+s)
	}
	return out, nil
}

// reserved says that a variable decides which programs run, or what Slurm is told, so that
// no payload sets it whatever a script mentions.
func reserved(name string) bool {
	for _, prefix := range []string{"LD_", "BASH", "SLURM", "SBATCH", "SRUN", "SALLOC", "DSPY_", "PYTHON", "PERL", "RUBY", "CONDA", "LMOD", "GIT_", "LC_", "XDG_", "APPTAINER", "SINGULARITY", "dspy_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return slices.Contains(reservedNames, name)
}

var reservedNames = []string{
	"PATH", "HOME", "USER", "LOGNAME", "SHELL", "SHELLOPTS", "PWD", "OLDPWD", "CDPATH", "IFS", "ENV", "PS1", "PS2", "PS4", "PROMPT_COMMAND", "GLOBIGNORE",
	"POSIXLY_CORRECT", "TMPDIR", "TERM", "LANG", "LANGUAGE", "EDITOR", "VISUAL", "PAGER", "HOSTNAME", "UID", "EUID", "PPID", "RANDOM", "SECONDS", "LINENO",
	"OPTARG", "OPTIND", "REPLY", "FUNCNAME", "DIRSTACK", "GROUPS", "MACHTYPE", "OSTYPE", "HOSTTYPE", "EPOCHSECONDS", "COPROC", "MAPFILE",
	"LIBRARY_PATH", "CPATH", "C_INCLUDE_PATH", "MANPATH", "MODULEPATH", "MODULESHOME", "LOADEDMODULES", "PKG_CONFIG_PATH", "CMAKE_PREFIX_PATH",
	"CLASSPATH", "JAVA_TOOL_OPTIONS", "JAVA_HOME", "GOPATH", "NODE_PATH", "NODE_OPTIONS", "R_LIBS", "R_LIBS_USER", "JULIA_LOAD_PATH", "LUA_PATH", "LUA_INIT",
	"VIRTUAL_ENV", "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "CUDA_PATH", "DOCKER_HOST", "MALLOC_CHECK_", "GCONV_PATH", "NLSPATH", "LOCPATH", "TZDIR",
}
