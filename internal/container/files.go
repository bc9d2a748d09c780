package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

// What is in the folder of a container. Only shared is shown to the program.
const (
	sharedDir   = "shared"
	payloadFile = "payload.json"
	resultFile  = "result.json"
	signalFile  = "signal.json"
	outputFile  = "output.pos"
	plainFile   = "plain"
)

// insideDir is where a program finds the shared folder.
const insideDir = "/run/dspy-agent"

func (b *Backend) path(ref task.Ref, parts ...string) string {
	return filepath.Join(append([]string{b.layout.ContainerDir(ref)}, parts...)...)
}

func (b *Backend) resultPath(ref task.Ref) string { return b.path(ref, sharedDir, resultFile) }

// prepare makes the folder, with the payload in it.
func (r *run) prepare(ctx context.Context, t task.Task) error {
	b, ref := r.b, r.ref
	if err := b.layout.Prepare(ref); err != nil {
		return err
	}
	if err := r.takeFolder(ctx); err != nil {
		return err
	}
	if err := os.MkdirAll(b.path(ref, sharedDir), 0o700); err != nil {
		return err
	}
	if len(t.Spec.Payload) == 0 || !b.engine.Local() {
		return nil
	}
	return taskfiles.WritePayload(b.path(ref, sharedDir, payloadFile), t.Spec.Payload)
}

// removeFiles removes what only the run itself needed. The output stays.
func (b *Backend) removeFiles(ref task.Ref) {
	if b.others(ref) {
		return
	}
	if err := os.RemoveAll(b.layout.ContainerDir(ref)); err != nil {
		b.opts.Logger.Warn("cannot remove the folder of a container", "task", ref.Seq, "error", err)
	}
}

// send puts the shared folder into a container whose engine sees other files.
func (r *run) send(ctx context.Context, t task.Task) error {
	if r.b.engine.Local() {
		return nil
	}
	uid, gid := r.b.owner()
	files := []docker.File{{Path: insideDir, Dir: true, Mode: 0o700, UID: uid, GID: gid}}
	if len(t.Spec.Payload) > 0 {
		files = append(files, docker.File{Path: insideDir + "/" + payloadFile, Data: t.Spec.Payload, Mode: 0o600, UID: uid, GID: gid})
	}
	return r.b.engine.Put(ctx, r.name, files)
}

// fetchResult brings the result here from a container whose engine sees other files.
func (r *run) fetchResult(ctx context.Context) error {
	if r.b.engine.Local() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	b, err := r.b.engine.Get(ctx, r.name, insideDir+"/"+resultFile, r.b.opts.ResultLimit)
	path := r.b.resultPath(r.ref)
	switch {
	case errors.Is(err, docker.ErrNoFile):
		return nil
	case errors.Is(err, docker.ErrStrangeFile):
		b = []byte("[]") // which is no object, and is refused in the same words
	case err != nil:
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}

// signal is that the program was asked to end, when, and why.
type signal struct {
	At    time.Time  `json:"at"`
	Cause task.Cause `json:"cause"`
}

func (s signal) sent() bool { return !s.At.IsZero() }

func (r *run) readSignal() signal {
	var s signal
	if r.b.others(r.ref) {
		return s
	}
	b, err := os.ReadFile(r.b.path(r.ref, signalFile))
	if err != nil || json.Unmarshal(b, &s) != nil {
		return signal{}
	}
	return s
}

func (r *run) writeSignal() error {
	b, err := json.Marshal(r.signal)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(r.b.path(r.ref), 0o700); err != nil {
		return err
	}
	return os.WriteFile(r.b.path(r.ref, signalFile), b, 0o600)
}

// notePlain notes that a container is done away with which had our init and in which nothing
// has begun, and that the one that comes after it was not asked to start.
func (r *run) notePlain() error {
	if err := os.WriteFile(r.b.path(r.ref, plainFile), nil, 0o600); err != nil {
		return fmt.Errorf("note that a container is made anew: %w", err)
	}
	r.plain, r.unasked = true, true
	return nil
}

func (r *run) readPlain() {
	if _, err := os.Lstat(r.b.path(r.ref, plainFile)); err == nil && !r.b.others(r.ref) {
		r.plain, r.unasked = true, true
	}
}

// forgetPlain notes that it is asked to.
func (r *run) forgetPlain() error {
	if !r.unasked {
		return nil
	}
	if err := os.Remove(r.b.path(r.ref, plainFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r.unasked = false
	return nil
}

// takeBackSignal notes that nobody was there to be asked.
func (r *run) takeBackSignal() {
	r.signal = signal{}
	if err := os.Remove(r.b.path(r.ref, signalFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.b.opts.Logger.Warn("cannot remove the note of a signal", "task", r.ref.Seq, "error", err)
	}
}
