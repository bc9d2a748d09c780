package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// sweepPause is between two directories of tasks: looking for litter must not be
// felt.
const sweepPause = 20 * time.Millisecond

// attemptFile is the name of a file of an attempt: its task, its number, what it
// is. Nothing else in the directories of tasks is ours to remove.
var attemptFile = regexp.MustCompile(`^([0-9]{1,19})-([0-9]{1,9})\.(log|log\.cuts|log\.cuts\.new|log\.streams|payload\.json|payload\.json\.new|result\.json)$`)

// unfinished are files under the names that they bear before they are whole.
var unfinished = map[string]bool{"log.cuts" + newSuffix: true, "payload.json" + newSuffix: true}

// sweepFiles removes what was left in the tasks directory by those who were
// killed: files that were never finished, and files of attempts that the queue
// does not know any more. It looks twice, a while apart, and takes only what has
// not changed in between.
func (b *Backend) sweepFiles(ctx context.Context) {
	if !pauseFor(ctx, sweepGrace) {
		return
	}
	found, err := b.litter(ctx)
	if err == nil && len(found) > 0 && pauseFor(ctx, sweepGrace) {
		n := 0
		for path, before := range found {
			if removeUnchanged(path, before) {
				n++
			}
		}
		b.opts.Logger.Info("removed files that nobody needs", "files", n, "dir", b.layout.Dir)
	}
	if err != nil && ctx.Err() == nil {
		b.opts.Logger.Warn("cannot look for files that nobody needs", "dir", b.layout.Dir, "error", err)
	}
}

// litter finds files that may be removed.
func (b *Backend) litter(ctx context.Context) (map[string]fs.FileInfo, error) {
	found := map[string]fs.FileInfo{}
	shards, err := os.ReadDir(b.layout.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for litter: %w", err)
	}
	for _, shard := range shards {
		if _, err := strconv.ParseUint(shard.Name(), 10, 64); err != nil || !shard.IsDir() {
			continue
		}
		if !pauseFor(ctx, sweepPause) {
			return nil, ctx.Err()
		}
		if err := b.litterIn(filepath.Join(b.layout.Dir, shard.Name()), found); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func (b *Backend) litterIn(dir string, found map[string]fs.FileInfo) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("look for litter: %w", err)
	}
	known := map[task.Ref]bool{}
	for _, e := range entries {
		m := attemptFile.FindStringSubmatch(e.Name())
		if m == nil || !e.Type().IsRegular() {
			continue
		}
		needed := !unfinished[m[3]]
		if needed {
			if needed, err = b.known(m[1], m[2], known); err != nil {
				return err
			}
		}
		if needed {
			continue
		}
		if st, err := e.Info(); err == nil { // else it went away
			found[filepath.Join(dir, e.Name())] = st
		}
	}
	return nil
}

// known asks the queue about an attempt, once.
func (b *Backend) known(seq, attempt string, asked map[task.Ref]bool) (bool, error) {
	if b.opts.Known == nil {
		return true, nil
	}
	s, err := strconv.ParseUint(seq, 10, 64)
	n, err2 := strconv.Atoi(attempt)
	if err := errors.Join(err, err2); err != nil {
		return true, nil // no number of ours
	}
	ref := task.Ref{Seq: task.Seq(s), Attempt: n}
	is, ok := asked[ref]
	if ok {
		return is, nil
	}
	is, err = b.opts.Known(ref)
	if err != nil {
		return true, fmt.Errorf("look for litter: %w", err)
	}
	asked[ref] = is
	return is, nil
}

// removeUnchanged removes a file that is the same as before.
func removeUnchanged(path string, before fs.FileInfo) bool {
	now, err := os.Lstat(path)
	if err != nil || !os.SameFile(before, now) || now.Size() != before.Size() || !now.ModTime().Equal(before.ModTime()) {
		return false
	}
	return os.Remove(path) == nil
}

// pauseFor waits; false when ctx ended.
func pauseFor(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
