package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/dspy-agent/dspy-agent/internal/docker"
)

// Images that were fetched for tasks of this queue are noted, so that they, and no others,
// can be removed when nobody needs them any more. An image that was there before is not
// ours, and neither is one whose name means another one since. A note that is lost costs
// no more than that its image stays.

// pulledFile is where they are noted, in the folder of the tasks.
const pulledFile = "fetched-images.json"

// pulled is what was fetched: the id of each image, by its name.
type pulled struct {
	path string
	mu   sync.Mutex
}

func (p *pulled) read() (map[string]string, error) {
	all := map[string]string{}
	b, err := os.ReadFile(p.path)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("read which images were fetched: %w", err)
	}
	return all, nil
}

// change changes the notes.
func (p *pulled) change(do func(map[string]string)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	all, err := p.read()
	if err != nil {
		return err
	}
	do(all)
	b, err := json.Marshal(all)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(p.path), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(p.path+".new", b, 0o600); err != nil {
		return fmt.Errorf("note which images were fetched: %w", err)
	}
	return os.Rename(p.path+".new", p.path)
}

// notePulled notes an image that has just been fetched.
func (b *Backend) notePulled(ctx context.Context, ref string) {
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	is, err := b.engine.Image(ctx, ref)
	if err == nil {
		err = b.pulled.change(func(all map[string]string) { all[ref] = is.ID })
	}
	if err != nil {
		b.opts.Logger.Warn("cannot note that an image was fetched, so it will not be removed when nobody needs it", "image", ref, "error", err)
	}
}

// Pruned is an image that was fetched for tasks of this queue, and what became of it.
type Pruned struct {
	Image string
	Bytes int64
	Kept  string // why it is still there; "" = it was removed, or would be
}

// Prune removes the images that were fetched for tasks of this queue, but for those that
// are needed, and those that any container uses. dry only says what would be done.
func (b *Backend) Prune(ctx context.Context, needed []string, dry bool) ([]Pruned, error) {
	all, err := b.pulled.read()
	if err != nil {
		return nil, err
	}
	needed = append(slices.Clone(needed), b.inHand()...)
	var out []Pruned
	for ref, id := range all {
		is, err := b.engine.Image(ctx, ref)
		switch {
		case errors.Is(err, docker.ErrNoImage), err == nil && is.ID != id: // somebody else's by now
			err = b.pulled.change(func(all map[string]string) { delete(all, ref) })
		case err != nil:
		default:
			var p Pruned
			p, err = b.prune(ctx, ref, needed, dry)
			p.Bytes = is.Size
			out = append(out, p)
		}
		if err != nil {
			return out, err
		}
	}
	slices.SortFunc(out, func(a, b Pruned) int { return strings.Compare(a.Image, b.Image) })
	return out, nil
}

// prune removes one.
func (b *Backend) prune(ctx context.Context, ref string, needed []string, dry bool) (Pruned, error) {
	p := Pruned{Image: ref}
	switch {
	case slices.Contains(needed, ref):
		p.Kept = "a task needs it"
		return p, nil
	case dry:
		return p, nil
	}
	err := b.engine.RemoveImage(ctx, ref)
	switch {
	case errors.Is(err, docker.ErrConflict):
		p.Kept = "a container uses it"
		return p, nil
	case err != nil && !errors.Is(err, docker.ErrNoImage):
		return p, err
	}
	b.opts.Logger.Info("removed an image that no task needs", "image", ref)
	return p, b.pulled.change(func(all map[string]string) { delete(all, ref) })
}

// inHand are the images of attempts that have not ended.
func (b *Backend) inHand() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for _, r := range b.runs {
		if !r.ended {
			out = append(out, r.task.Spec.Image)
		}
	}
	return out
}
