package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

// A queue that was restored gives out numbers of attempts that a former one in the same
// place has given out as well, and whose containers may still run. So the folder of an
// attempt says whose it is, and one that is another's is set aside before an attempt begins:
// nothing of what is in it is believed, written or removed.

const (
	// queueFile is in the folder of a container, and has the id of its queue.
	queueFile = "queue"
	// newSuffix is for a folder that gets its name when it says whose it is.
	newSuffix = ".new"
)

// folderOf says whose the folder of an attempt is: a queue's id, "" for one that does not
// say, and an error that matches fs.ErrNotExist if there is none.
func (b *Backend) folderOf(ref task.Ref) (queue string, err error) {
	id, err := os.ReadFile(b.path(ref, queueFile))
	if errors.Is(err, fs.ErrNotExist) {
		_, err = os.Lstat(b.path(ref))
	}
	if err != nil {
		return "", fmt.Errorf("find out whose the folder of a container is: %w", err)
	}
	return strings.TrimSpace(string(id)), nil
}

// others says whether the folder of an attempt surely is another queue's.
func (b *Backend) others(ref task.Ref) bool {
	queue, err := b.folderOf(ref)
	return err == nil && queue != "" && queue != b.opts.QueueID
}

// takeFolder makes the folder of an attempt that begins, or finds the one that was made for
// it. What lies there of others gets other names, and the output with it.
func (r *run) takeFolder(ctx context.Context) error {
	b := r.b
	queue, err := b.folderOf(r.ref)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case queue == b.opts.QueueID:
		return nil
	case queue == "": // a release before this one did not say
		switch _, err := r.inspect(ctx); {
		case err == nil:
			return b.signFolder(b.path(r.ref))
		case !errors.Is(err, docker.ErrNoContainer):
			return err
		}
	}
	if err == nil {
		if err := taskfiles.SetFolderAside(b.path(r.ref)); err != nil {
			return err
		}
		r.signal = signal{}
	}
	if err := taskfiles.SetAside(b.layout.LogPath(r.ref)); err != nil {
		return err
	}
	fresh := b.path(r.ref) + newSuffix
	if err := os.MkdirAll(fresh, 0o700); err != nil {
		return fmt.Errorf("make the folder of a container: %w", err)
	}
	if err := b.signFolder(fresh); err != nil {
		return err
	}
	if err := os.Rename(fresh, b.path(r.ref)); err != nil {
		return fmt.Errorf("make the folder of a container: %w", err)
	}
	return nil
}

// signFolder writes into a folder that it is our queue's.
func (b *Backend) signFolder(dir string) error {
	if err := os.WriteFile(filepath.Join(dir, queueFile), []byte(b.opts.QueueID+"\n"), 0o600); err != nil {
		return fmt.Errorf("sign the folder of a container: %w", err)
	}
	return nil
}
