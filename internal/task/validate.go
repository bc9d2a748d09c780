package task

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits of a spec. They are wide for honest use, and keep one submission from
// filling the queue or the kernel's argument space.
const (
	MaxIDBytes      = 200
	MaxNameBytes    = 200
	MaxArgvBytes    = 1 << 20 // the kernel's own limit is 2 MiB with the environment
	MaxArgs         = 16384
	MaxEnvBytes     = 512 << 10
	MaxPayloadBytes = 4 << 20
	MaxDeps         = 1000
	MaxRetries      = 1000
	MaxPriority     = 1_000_000
	MaxDuration     = 366 * 24 * time.Hour

	MaxCPUMilli = 1 << 30
	MaxMemBytes = 1 << 60 // of memory, and of GPU memory
	MaxGPUs     = 1 << 20
)

// Validate says what is wrong with the spec, as an Error with CodeInvalid that
// names the field and what is allowed; nil if nothing is. It looks only at the
// spec: whether the class is known, or the working directory exists, is for
// those who can know.
func (s *Spec) Validate() error {
	checks := []func() error{
		s.validateNames, s.validateProgram, s.validateEnv, s.validateContainer, s.validatePayload, s.validateNumbers, s.validateDeps,
	}
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func invalid(format string, args ...any) error { return Errorf(CodeInvalid, format, args...) }

func (s *Spec) validateNames() error {
	if err := ValidateID(s.ID); err != nil {
		return err
	}
	for _, f := range []struct{ what, v string }{{"name", s.Name}, {"class", s.Class}, {"workflow_id", s.WorkflowID}, {"tenant", s.Tenant}, {"gpu_model", s.Resources.GPUModel}, {"mig", s.Resources.MIG}} {
		if len(f.v) > MaxNameBytes {
			return invalid("%s is %d bytes long; at most %d are allowed", f.what, len(f.v), MaxNameBytes)
		}
		if !Printable(f.v) {
			return invalid("%s %q has a character that cannot be printed", f.what, f.v)
		}
	}
	if s.Class == "" {
		return invalid("class is empty")
	}
	return nil
}

// ValidateID says what is wrong with a user's task id. Ids become parts of file
// names, labels and log lines, so they hold letters, digits and . _ - : @ + =
// only, and do not begin with a dot or a dash. Slashes are allowed between
// such parts, since people use them for grouping ("sweep/lr=0.1").
func ValidateID(id string) error {
	if id == "" {
		return invalid("id is empty")
	}
	if len(id) > MaxIDBytes {
		return invalid("id is %d bytes long; at most %d are allowed", len(id), MaxIDBytes)
	}
	for part := range strings.SplitSeq(id, "/") {
		if part == "" || part[0] == '.' || part[0] == '-' {
			return invalid("id %q: each part between slashes begins with a letter, a digit or one of _:@+=", id)
		}
		for _, r := range part {
			if r >= utf8.RuneSelf || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-:@+=", r) {
				return invalid("id %q: %q is not allowed; use letters, digits and . _ - : @ + = /", id, r)
			}
		}
	}
	return nil
}

func (s *Spec) validateProgram() error {
	switch {
	case s.Builtin != "" && s.Builtin != BuiltinEcho && s.Builtin != BuiltinTemplate:
		return invalid("unknown built-in %q", s.Builtin)
	case s.Builtin != "" && len(s.Argv) > 0:
		return invalid("a built-in task takes no command")
	case s.Builtin != "":
		return s.validateDir()
	case len(s.Argv) == 0:
		if s.Image == "" {
			return invalid("the command is empty: say what to run, as in: submit -- python train.py")
		}
	case s.Argv[0] == "":
		return invalid("the first word of the command is empty")
	}
	if len(s.Argv) > MaxArgs {
		return invalid("the command has %d words; at most %d are allowed", len(s.Argv), MaxArgs)
	}
	total := 0
	for i, a := range s.Argv {
		total += len(a)
		if strings.IndexByte(a, 0) >= 0 {
			return invalid("word %d of the command has a NUL byte", i)
		}
	}
	if total > MaxArgvBytes {
		return invalid("the command is %d bytes long; at most %d are allowed: put long data into the payload or a file", total, MaxArgvBytes)
	}
	return s.validateDir()
}

func (s *Spec) validateDir() error {
	if s.Dir != "" && (!filepath.IsAbs(s.Dir) || strings.IndexByte(s.Dir, 0) >= 0) {
		return invalid("working directory %q is not an absolute path", s.Dir)
	}
	return nil
}

func (s *Spec) validateEnv() error {
	total := 0
	for _, kv := range slices.Concat(s.Ambient, s.Env) {
		total += len(kv)
		k, _, ok := strings.Cut(kv, "=")
		switch {
		case !ok || k == "":
			return invalid("environment entry %q is not NAME=VALUE", kv)
		case strings.IndexByte(kv, 0) >= 0:
			return invalid("environment variable %s has a NUL byte", k)
		case ReservedVariable(k):
			return invalid("environment variable %s is set by the scheduler and cannot be given", k)
		}
	}
	if total > MaxEnvBytes {
		return invalid("the environment is %d bytes long; at most %d are allowed", total, MaxEnvBytes)
	}
	return nil
}

// ReservedVariable says whether an environment variable is the scheduler's own:
// it tells a program who it is.
func ReservedVariable(name string) bool {
	return strings.HasPrefix(name, "DSPY_TASK_") || name == "DSPY_PAYLOAD_FILE" || name == "DSPY_RESULT_FILE"
}

func (s *Spec) validatePayload() error {
	if len(s.Payload) == 0 {
		return nil
	}
	if len(s.Payload) > MaxPayloadBytes {
		return invalid("the payload is %d bytes long; at most %d are allowed: put large data into a file and pass its path", len(s.Payload), MaxPayloadBytes)
	}
	if t := bytes.TrimLeft(s.Payload, " \t\r\n"); len(t) == 0 || t[0] != '{' || !json.Valid(s.Payload) {
		return invalid("the payload is not a JSON object")
	}
	return nil
}

func (s *Spec) validateNumbers() error {
	for _, f := range []struct {
		what     string
		v, limit int64
	}{
		{"retries", int64(s.Retries), MaxRetries},
		{"timeout", int64(s.Timeout), int64(MaxDuration)},
		{"grace", int64(s.Grace), int64(MaxDuration)},
		{"backoff_base", int64(s.BackoffBase), int64(MaxDuration)},
		{"backoff_cap", int64(s.BackoffCap), int64(MaxDuration)},
		{"cpu_millicores", s.Resources.CPUMilli, MaxCPUMilli},
		{"mem_bytes", s.Resources.MemBytes, MaxMemBytes},
		{"gpus", int64(s.Resources.GPUs), MaxGPUs},
		{"gpu_memory", s.Resources.GPUMem, MaxMemBytes},
	} {
		if f.v < 0 || f.v > f.limit {
			return invalid("%s is %d; it must be between 0 and %d", f.what, f.v, f.limit)
		}
	}
	if s.Priority < -MaxPriority || s.Priority > MaxPriority {
		return invalid("priority is %d; it must be between %d and %d", s.Priority, -MaxPriority, MaxPriority)
	}
	if s.OnLost > LostRetry {
		return invalid("on_lost must be fail or retry")
	}
	return nil
}

func (s *Spec) validateDeps() error {
	if len(s.After) > MaxDeps {
		return invalid("the task waits for %d others; at most %d are allowed", len(s.After), MaxDeps)
	}
	for _, d := range s.After {
		if err := ValidateID(d.ID); err != nil {
			return invalid("after: %w", err)
		}
		if d.ID == s.ID {
			return invalid("task %s cannot wait for itself", s.ID)
		}
		if int(d.When) >= len(conditionNames) {
			return invalid("after %s: the condition must be ok, any or notok", d.ID)
		}
	}
	return nil
}

// Printable says whether a text can be shown in a line: UTF-8, and every
// character of it printable.
func Printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}
