package container

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// refusal is why a container is not made.
type refusal struct {
	class task.FailureClass
	text  string
}

func refuse(format string, args ...any) *refusal {
	return &refusal{class: task.UserError, text: fmt.Sprintf(format, args...)}
}

// noNetwork is that of a container which has none.
const noNetwork = "none"

// logFiles is in how many files an engine keeps output, each as large as what we keep.
// It stores more than was printed: each line is an object with its time.
const logFiles = 4

// spec says what the container of a task is like.
func (r *run) spec(t task.Task) (docker.Spec, *refusal) {
	b, s, is := r.b, t.Spec, r.b.engineNow()
	mounts, no := b.mounts(s.Mounts)
	if no != nil {
		return docker.Spec{}, no
	}
	if b.engine.Local() {
		mounts = append(mounts, docker.Mount{Source: b.path(t.Ref(), sharedDir), Target: insideDir})
	}
	network, no := b.network(s.Network)
	if no != nil {
		return docker.Spec{}, no
	}
	uid, gid := b.owner()
	out := docker.Spec{
		Name: r.name, Labels: labelsOf(b.opts.QueueID, t), Image: s.Image, Env: environment(t), Dir: s.ContainerDir,
		User: strconv.Itoa(uid) + ":" + strconv.Itoa(gid), Mounts: mounts,
		CPUMilli: s.Resources.CPUMilli, MemBytes: s.Resources.MemBytes, ShmBytes: b.opts.Rules.ShmBytes, PIDs: b.opts.Rules.PIDs,
		Network: network, Init: is.Init, CapAdd: b.opts.Rules.Capabilities,
		GPUs:     t.Status().Lease.GPUs,
		LogBytes: logFiles * b.opts.LogCap, LogFiles: logFiles,
	}
	if is.CPUs > 0 {
		out.CPUMilli = min(out.CPUMilli, int64(is.CPUs)*1000)
	}
	switch {
	case s.ImageEntrypoint:
		out.Command = s.Argv
	case len(s.Argv) > 0:
		// What was submitted is all of it, as without a container.
		out.Entrypoint, out.Command = s.Argv[:1], s.Argv[1:]
	}
	return out, nil
}

// Admit refuses a task that asks for what containers are not given here, before it is in any
// line. What is on the disk may be another thing by the time it starts: it is looked at
// again then.
func (b *Backend) Admit(s *task.Spec) error {
	if _, no := b.network(s.Network); no != nil {
		return task.Errorf(task.CodeInvalid, "%s", no.text)
	}
	for _, m := range s.Mounts {
		if no := reserved(m); no != nil {
			return task.Errorf(task.CodeInvalid, "%s", no.text)
		}
		if real := b.resolved(m.Host); !b.allowed(real) {
			return task.Errorf(task.CodeInvalid, "%s", notAllowed(m.Host, real).text)
		}
	}
	return nil
}

// resolved follows the links of a path as far as it is there.
func (b *Backend) resolved(path string) string {
	if !b.engine.Local() {
		return path // its links are those of another machine
	}
	real, err := filepath.EvalSymlinks(path)
	switch dir, last := filepath.Split(path); {
	case err == nil:
		return real
	case filepath.Clean(dir) == path:
		return path
	default:
		return filepath.Join(b.resolved(filepath.Clean(dir)), last)
	}
}

// notAllowed is for a path that is, links followed, outside of what may be shown.
func notAllowed(asked, real string) *refusal {
	at := asked
	if real != asked {
		at += " (which is " + real + ")"
	}
	return refuse("mount %s: it is not below a folder that containers may be shown; add one to containers.mounts in the configuration", at)
}

// network checks the network that a task asks for against what is allowed.
func (b *Backend) network(asked string) (string, *refusal) {
	usual := cmp.Or(b.opts.Rules.Network, noNetwork)
	switch {
	case asked == "":
		return usual, nil
	case asked == noNetwork, asked == usual, slices.Contains(b.opts.Rules.Networks, asked):
		return asked, nil
	default:
		return "", refuse("network %s: containers may not be given it; add it to containers.networks in the configuration", asked)
	}
}

// owner is as whom programs run. Where the engine is rootless, root inside is its
// user outside, who is the owner.
func (b *Backend) owner() (uid, gid int) {
	if b.engineNow().Rootless {
		return 0, 0
	}
	return b.opts.UID, b.opts.GID
}

// environment is what the submitter asked for, and what tells a program who it is.
// What was taken along from the submitter's shell is about another file system.
func environment(t task.Task) []string {
	out := append(gpuEnvironment(t),
		"DSPY_TASK_ID="+t.Spec.ID, "DSPY_TASK_CLASS="+t.Spec.Class, "DSPY_TASK_ATTEMPT="+strconv.Itoa(t.Attempt()),
		"DSPY_RESULT_FILE="+insideDir+"/"+resultFile)
	if len(t.Spec.Payload) > 0 {
		out = append(out, "DSPY_PAYLOAD_FILE="+insideDir+"/"+payloadFile)
	}
	return out
}

// mounts checks what a task wants to be shown against what is allowed. What is
// mounted is what was checked: the path with every link followed.
func (b *Backend) mounts(asked []task.Mount) ([]docker.Mount, *refusal) {
	var out []docker.Mount
	for _, m := range asked {
		if no := reserved(m); no != nil {
			return nil, no
		}
		switch {
		case !b.engine.Local() && !b.allowed(m.Host):
			return nil, notAllowed(m.Host, m.Host)
		case !b.engine.Local(): // its links are those of another machine
			out = append(out, docker.Mount{Source: m.Host, Target: m.Target, ReadOnly: m.ReadOnly})
			continue
		}
		real, err := filepath.EvalSymlinks(m.Host)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, refuse("mount %s: there is no such file or folder on this host", m.Host)
		case err != nil:
			return nil, &refusal{class: task.CouldNotStart, text: fmt.Sprintf("mount %s: %v", m.Host, err)}
		case !b.allowed(real):
			return nil, notAllowed(m.Host, real)
		}
		out = append(out, docker.Mount{Source: real, Target: m.Target, ReadOnly: m.ReadOnly})
	}
	return out, nil
}

// reserved refuses what is to be shown where our own files are.
func reserved(m task.Mount) *refusal {
	for _, own := range []string{insideDir, initPath} {
		if strings.HasPrefix(path.Clean(m.Target)+"/", own+"/") {
			return refuse("mount %s: %s is the scheduler's own in the container; mount elsewhere", m.Host, own)
		}
	}
	return nil
}

// allowed says whether a path without links is below one that may be shown.
func (b *Backend) allowed(path string) bool {
	return slices.ContainsFunc(b.opts.Rules.Mounts, func(root string) bool {
		if real, err := filepath.EvalSymlinks(root); err == nil && b.engine.Local() {
			root = real
		}
		rel, err := filepath.Rel(root, path)
		return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(os.PathSeparator))
	})
}
