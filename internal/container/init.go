package container

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/containerinit"
	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Where our init can be shown to a container, it runs first there, and writes down what
// becomes of the attempt (internal/containerinit). Elsewhere the engine's word is all there
// is: on another machine, where users are mapped to others, and where a try has shown that
// it cannot be executed or cannot write.

const (
	// labelInit says that the container has our init, and which version of the record.
	labelInit   = "dev.dspy-agent.init"
	initVersion = "1"
	// initPath is where the container finds it.
	initPath = "/run/dspy-init"
	// recordDir is in the shared folder, so that one mount shows both.
	recordDir = ".attempt"
	// engineLogBytes is how much an engine keeps of what it is not given: the words of an
	// init that cannot do its work.
	engineLogBytes = 1 << 20
	// initPrefix names the copies of the program in the folder of all attempts.
	initPrefix = "init-"
	// oldInit is how long one of another release is kept that no daemon uses, and oldCopy how
	// long copying may take.
	oldInit = 30 * 24 * time.Hour
	oldCopy = time.Hour
)

// inits is what is known of our init here.
type inits struct {
	mu      sync.Mutex
	path    string // where it is kept; "" = it is not, yet
	failed  bool   // to keep it; that was said
	useless bool   // it was tried in vain here
}

// initFile returns the program to be shown to containers; "" = none.
func (b *Backend) initFile() string {
	if b.opts.Init == "" || !b.engine.Local() || b.engineNow().UsersMapped {
		return ""
	}
	i := &b.inits
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.useless || i.path != "" {
		return i.usable()
	}
	path, err := keepInit(b.opts.Init, b.opts.TasksDir)
	if err != nil {
		if !i.failed {
			b.opts.Logger.Warn("containers run without our init until it can be copied; what becomes of them while their engine is killed may not be known", "error", err)
		}
		i.failed = true
		return ""
	}
	i.path, i.failed = path, false
	if err := removeOldInits(b.opts.TasksDir, path); err != nil {
		b.opts.Logger.Warn("cannot remove inits of earlier releases", "error", err)
	}
	return i.path
}

// usable is the program, unless it is of no use. The mutex is held.
func (i *inits) usable() string {
	if i.useless {
		return ""
	}
	return i.path
}

// keepInit copies the program to where the engine finds the files of attempts as well, and
// where nobody replaces it while containers wait to be started.
func keepInit(from, dir string) (string, error) {
	b, err := os.ReadFile(from)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	path := filepath.Join(dir, fmt.Sprintf("%s%x", initPrefix, sum[:6]))
	if st, err := os.Stat(path); err == nil && st.Size() == int64(len(b)) {
		now := time.Now()
		_ = os.Chtimes(path, now, now) // that it is in use; where this fails it is copied anew one day
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(dir, initPrefix+"*"+newSuffix)
	if err != nil {
		return "", err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Chmod(0o555), f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return path, os.Rename(f.Name(), path)
}

// removeOldInits removes the inits of earlier releases that no daemon has used for long, and
// copies that were broken off. A container that runs has its own open.
func removeOldInits(dir, present string) error {
	all, err := filepath.Glob(filepath.Join(dir, initPrefix+"*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range all {
		old := oldInit
		if strings.HasSuffix(path, newSuffix) {
			old = oldCopy
		}
		if st, err := os.Stat(path); err != nil || path == present || time.Since(st.ModTime()) < old {
			continue
		}
		errs = append(errs, os.Remove(path))
	}
	return errors.Join(errs...)
}

// record is the folder of the attempt's record.
func (b *Backend) record(ref task.Ref) string { return b.path(ref, sharedDir, recordDir) }

// withInit has our init run before the program of a container, if that can be done here. A
// container without has no record, not even an empty one: by that the two are told apart when
// there is none any more.
func (r *run) withInit(ctx context.Context, t task.Task, s *docker.Spec) error {
	file := r.b.initFile()
	if file == "" || r.plain {
		return os.RemoveAll(r.b.record(r.ref))
	}
	argv, err := r.argv(ctx, t)
	switch {
	case err != nil:
		return err
	case len(argv) == 0: // the engine has better words for what is wrong then
		return os.RemoveAll(r.b.record(r.ref))
	}
	if err := containerinit.Prepare(r.b.record(r.ref), r.b.layout.LogPath(r.ref)); err != nil {
		r.b.opts.Logger.Warn("a container runs without our init, whose files cannot be made", "task", r.ref.Seq, "error", err)
		return os.RemoveAll(r.b.record(r.ref))
	}
	s.Labels[labelInit] = initVersion
	s.Mounts = append(s.Mounts, docker.Mount{Source: file, Target: initPath, ReadOnly: true})
	s.Entrypoint = []string{initPath}
	s.Command = containerinit.Args(insideDir+"/"+recordDir, r.b.opts.LogCap, argv)
	s.Init, s.LogBytes, s.LogFiles = false, engineLogBytes, 1
	if s.PIDs > 0 {
		s.PIDs += containerinit.Threads
	}
	return nil
}

// argv is what runs in the container: the engine would find it out, but for its init.
func (r *run) argv(ctx context.Context, t task.Task) ([]string, error) {
	if len(t.Spec.Argv) > 0 && !t.Spec.ImageEntrypoint {
		return t.Spec.Argv, nil
	}
	is, err := r.b.engine.Image(ctx, t.Spec.Image)
	switch {
	case err != nil && away(err):
		return nil, err
	case err != nil:
		return nil, nil //nolint:nilerr // making the container tells
	case len(t.Spec.Argv) > 0:
		return slices.Concat(is.Entrypoint, t.Spec.Argv), nil
	default:
		return slices.Concat(is.Entrypoint, is.Command), nil
	}
}

// keep takes note that the container has our init.
func (r *run) keep() {
	if !r.kept {
		r.setKept(true)
	}
}

// keepNot takes note that the container is made anew.
func (r *run) keepNot() { r.setKept(false) }

func (r *run) setKept(yes bool) {
	r.kept = yes
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	r.logged = yes
}

// initUseless takes note that containers run here without our init, and not with it.
func (b *Backend) initUseless() {
	b.inits.mu.Lock()
	defer b.inits.mu.Unlock()
	if !b.inits.useless {
		b.inits.useless = true
		b.opts.Logger.Warn("containers run without our init from now on, which cannot work in them here; what becomes of them while their engine is killed may not be known")
	}
}
