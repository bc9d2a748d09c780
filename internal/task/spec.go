package task

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Spec is what was asked for. It never changes after it was accepted.
type Spec struct {
	ID       string // unique in the queue; chosen by the user or made by the queue
	Name     string // for people; need not be unique
	Class    string // see classes in the configuration
	Priority int32  // higher is sooner; one step is worth PriorityStep of waiting

	Builtin string   // a program of our own, such as BuiltinEcho; then Argv is empty
	Argv    []string // the program and its arguments, passed on byte by byte
	Dir     string   // working directory, absolute
	Env     []string // "K=V", sorted by K: what the submitter asked for
	// Ambient is what was taken along from where the task was submitted, "K=V",
	// sorted by K; Env wins. It is no part of the Digest: the same command repeated
	// from another shell is the same submission.
	Ambient []string
	Payload json.RawMessage // a JSON object for the program; nil if there is none

	Timeout     time.Duration // enforced; 0 = none
	Grace       time.Duration // between SIGTERM and SIGKILL; 0 = DefaultGrace
	Retries     int           // for failures of the program's own doing
	BackoffBase time.Duration // 0 = BackoffBase
	BackoffCap  time.Duration // 0 = BackoffCap
	OnLost      LostPolicy

	After     []Dep     // tasks that have to end first
	Resources Resources // per attempt
	Image     string    // container image; "" = none
	// Mounts and ContainerDir, the working directory inside, are for containers, as are
	// Network, "" being the configured one, and ImageEntrypoint: Argv is what the image's
	// entry point is given, and not all of the command. None of them is in the records of
	// the first schema, nor in their JSON.
	Mounts          []Mount `json:",omitempty"`
	ContainerDir    string  `json:",omitempty"`
	Network         string  `json:",omitempty"`
	ImageEntrypoint bool    `json:",omitempty"`
	// ClassTimeout says that Timeout is what the class enforces, since the submitter named
	// none. It is no part of the Digest.
	ClassTimeout bool `json:",omitempty"`

	Needs    []string // supporting services that must be healthy
	Backends []string // backends it may go to, best first; empty = those of its class

	WorkflowID string
	Tenant     string
	SubmitUID  uint32 // who submitted it
	Via        string // by which door: "socket", "grpc", "http", "drop", "cli"
	Extra      json.RawMessage

	SubmittedAt Instant
}

// BuiltinEcho completes with its payload as the result. It exists so that
// people can try the pipe.
const BuiltinEcho = "echo"

// BuiltinTemplate is a task that names no command, since the template by which it becomes
// a Slurm job runs its own.
const BuiltinTemplate = "template"

// DefaultGrace is how long a task may take to end after SIGTERM.
const DefaultGrace = 10 * time.Second

// EnforcedLimit is how long an attempt can last at most: its time limit, and the
// time it may take to end then; 0 = nothing ends it.
func (s *Spec) EnforcedLimit() time.Duration { return EnforcedLimit(s.Timeout, s.Grace) }

// EnforcedLimit is Spec.EnforcedLimit for who has only these two of a spec.
func EnforcedLimit(timeout, grace time.Duration) time.Duration {
	switch {
	case timeout <= 0:
		return 0
	case grace <= 0:
		return timeout + DefaultGrace
	default:
		return timeout + grace
	}
}

// LimitWords names the time limit that ends an attempt, and whose it is.
func (s *Spec) LimitWords() string {
	switch {
	case s.Timeout <= 0:
		return "its time limit"
	case s.ClassTimeout:
		return fmt.Sprintf("the time limit of class %s, %s", s.Class, LimitText(s.Timeout))
	default:
		return "its time limit of " + LimitText(s.Timeout)
	}
}

// LimitText writes a time limit as people do: 2s, 1m, 1h30m.
func LimitText(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// PriorityStep is how much earlier a task counts as submitted per step of
// priority. Ageing is static: the order of two tasks never changes while they
// wait, so an index can hold it, and nothing starves, since a task of any
// priority is passed only by those submitted within a bounded time after it.
const PriorityStep = 10 * time.Minute

// Order is the place in the line: the submit time moved by the priority.
// Smaller is sooner.
func (s *Spec) Order() Instant {
	return s.SubmittedAt - Instant(s.Priority)*Instant(PriorityStep)
}

// LostPolicy says what follows when nobody saw how an attempt ended.
type LostPolicy uint8

// The policies.
const (
	// LostFail ends the task as Lost: it may have done its work, and doing it
	// twice could harm. The default.
	LostFail LostPolicy = iota
	// LostRetry makes a new attempt; for work that may be done twice.
	LostRetry
)

// Condition says how a task must end for those that wait for it.
type Condition uint8

// The conditions.
const (
	AfterOK    Condition = iota // it succeeded
	AfterAny                    // it ended
	AfterNotOK                  // it ended, but did not succeed
)

var conditionNames = [...]string{"ok", "any", "notok"}

// String returns "ok", "any" or "notok".
func (c Condition) String() string {
	if int(c) < len(conditionNames) {
		return conditionNames[c]
	}
	return "condition(" + strconv.Itoa(int(c)) + ")"
}

// ParseCondition returns the condition with that name.
func ParseCondition(name string) (Condition, bool) {
	i := slices.Index(conditionNames[:], name)
	return Condition(max(i, 0)), i >= 0
}

// Met says whether a task that ended in state s satisfies the condition.
func (c Condition) Met(s State) bool {
	switch c {
	case AfterOK:
		return s == Succeeded
	case AfterNotOK:
		return s.Terminal() && s != Succeeded
	default:
		return s.Terminal()
	}
}

// Dep is a task that has to end first, and how.
type Dep struct {
	ID   string
	Seq  Seq // filled in by the queue when it accepts the task
	When Condition
}

// Resources are what one attempt holds while it is active.
type Resources struct {
	CPUMilli int64 // thousandths of a CPU; 0 = one CPU, less than MinCPUMilli counts as that
	MemBytes int64 // 0 = not counted
	GPUs     int   // whole GPUs
	GPUMem   int64 // bytes of GPU memory, for a share of one GPU
	GPUModel string
	MIG      string // profile, such as "1g.10gb"
}

// MinCPUMilli is the least that an attempt counts for: what asks for less still
// is a process, and a machine has room for only so many.
const MinCPUMilli = 10

// CPU returns the CPU share that counts, in thousandths, with its default filled
// in.
func (r Resources) CPU() int64 {
	if r.CPUMilli <= 0 {
		return 1000
	}
	return max(r.CPUMilli, MinCPUMilli)
}

// Shape is what placing a task depends on, beside its place in the line: two
// tasks of one shape are placed alike, so a round of scheduling looks at the
// first of each shape and not at the backlog.
func (s *Spec) Shape() string {
	r := s.Resources
	b := make(shape, 0, 128)
	b = b.text(s.Class).num(r.CPU()).num(r.MemBytes).num(int64(r.GPUs)).num(r.GPUMem)
	b = b.text(r.GPUModel).text(r.MIG).text(s.Image).text(s.Builtin)
	b = b.num(int64(len(s.Needs)))
	for _, n := range s.Needs {
		b = b.text(n)
	}
	for _, n := range s.Backends {
		b = b.text(n)
	}
	return string(b)
}

// shape is a part of a Shape: each field behind its length.
type shape []byte

func (b shape) text(v string) shape {
	b = strconv.AppendInt(b, int64(len(v)), 10)
	return append(append(b, ':'), v...)
}

func (b shape) num(v int64) shape { return b.text(strconv.FormatInt(v, 36)) }

// Digest is a hash of what a spec asks for.
type Digest [16]byte

// Digest covers everything that the submitter chose, and nothing that was taken
// along, or that the queue or the way in added. The same id with the same digest is the same
// submission repeated; with another digest it is refused.
func (s *Spec) Digest() Digest {
	h := digester{sha256.New()}
	h.text("v1", s.ID, s.Name, s.Class, s.Builtin, s.Dir, s.Image, s.WorkflowID, s.Tenant, string(s.Payload))
	h.list(s.Argv)
	h.list(s.Env)
	h.list(s.Needs)
	h.list(s.Backends)
	h.num(int64(s.Priority), int64(s.Timeout), int64(s.Grace), int64(s.Retries), int64(s.BackoffBase), int64(s.BackoffCap), int64(s.OnLost))
	h.num(int64(len(s.After)))
	for _, d := range s.After {
		h.text(d.ID)
		h.num(int64(d.When))
	}
	r := s.Resources
	h.num(r.CPUMilli, r.MemBytes, int64(r.GPUs), r.GPUMem)
	h.text(r.GPUModel, r.MIG)
	h.container(s)
	return Digest(h.Sum(nil)[:16])
}

// container writes what came after the first release only where it is set, so
// that what was accepted before keeps its digest. All before it says its own
// length, so the end cannot be mistaken for it.
func (h digester) container(s *Spec) {
	if s.Network != "" || s.ImageEntrypoint {
		h.text("network", s.Network, strconv.FormatBool(s.ImageEntrypoint))
	}
	if len(s.Mounts) == 0 && s.ContainerDir == "" {
		return
	}
	h.text("container", s.ContainerDir)
	h.num(int64(len(s.Mounts)))
	for _, m := range s.Mounts {
		h.text(m.Host, m.Target)
		if m.ReadOnly {
			h.num(1)
		} else {
			h.num(0)
		}
	}
}

// digester writes values with their lengths, so that no two different specs
// write the same bytes.
type digester struct{ hash.Hash }

func (h digester) num(vs ...int64) {
	var b [8]byte
	for _, v := range vs {
		binary.BigEndian.PutUint64(b[:], uint64(v))
		_, _ = h.Write(b[:]) // a hash never fails
	}
}

func (h digester) text(vs ...string) {
	for _, v := range vs {
		h.num(int64(len(v)))
		_, _ = h.Write([]byte(v))
	}
}

func (h digester) list(vs []string) {
	h.num(int64(len(vs)))
	h.text(vs...)
}
