package app

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/dspy-agent/dspy-agent/envmgr"
	"github.com/dspy-agent/dspy-agent/internal/lease"
)

// wants is a Supervisor that remembers across restarts what is not wanted: a service that
// somebody has ended stays so. What was never ended is wanted.
type wants struct {
	*envmgr.Supervisor
	set  envmgr.Set
	path string
	log  *slog.Logger

	mu   sync.Mutex
	down map[string]bool
}

// wantsFile is what is remembered. Losing it has all services started.
type wantsFile struct {
	Down []string `json:"down"`
}

// begin has the services started that are wanted: those that are named, or those that
// nobody has ended.
func (w *wants) begin(ctx context.Context, names []string) error {
	w.mu.Lock()
	w.down = map[string]bool{}
	b, err := os.ReadFile(w.path)
	var was wantsFile
	if err == nil {
		err = json.Unmarshal(b, &was)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.log.Warn("what was wanted before cannot be read; all services are", "path", w.path, "error", err)
	}
	for _, name := range was.Down {
		w.down[name] = true
	}
	if names == nil {
		names = slices.DeleteFunc(w.set.Names(), func(name string) bool { return w.down[name] })
	}
	ended := w.stillEnded(names)
	w.mu.Unlock()
	if len(names) > 0 {
		if err := w.Supervisor.Up(ctx, names...); err != nil {
			return err
		}
	}
	if len(ended) == 0 {
		return nil
	}
	_, err = w.Supervisor.Down(ctx, ended...)
	return err
}

// stillEnded are the services that somebody has ended and that none of these needs. We may
// have been killed before their end, so it is asked for once more; not of one that may be
// done without by another that is wanted: to end that too was not what was asked.
func (w *wants) stillEnded(wanted []string) (ended []string) {
	up := w.set.With(wanted)
	for _, name := range w.set.Names() {
		free := func(user string) bool { return w.down[user] && !slices.Contains(up, user) }
		if free(name) && !slices.ContainsFunc(w.set.UsersOfAll([]string{name}), func(user string) bool { return !free(user) }) {
			ended = append(ended, name)
		}
	}
	return ended
}

// Up is that of the Supervisor.
func (w *wants) Up(ctx context.Context, names ...string) error {
	if err := w.set.Known(names); err != nil {
		return err
	}
	w.note(w.set.With(names), false)
	return w.Supervisor.Up(ctx, names...)
}

// Down is that of the Supervisor.
func (w *wants) Down(ctx context.Context, names ...string) ([]string, error) {
	ended, err := w.Supervisor.Down(ctx, names...)
	w.note(ended, true)
	return ended, err
}

// note remembers what is not wanted. That it cannot be written costs no more than a start
// too many after the next crash.
func (w *wants) note(names []string, down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range names {
		if down {
			w.down[name] = true
		} else {
			delete(w.down, name)
		}
	}
	is := wantsFile{Down: []string{}}
	for _, name := range w.set.Names() {
		if w.down[name] {
			is.Down = append(is.Down, name)
		}
	}
	b, err := json.Marshal(is)
	if err == nil {
		err = lease.WriteWhole(w.path, append(b, '\n'))
	}
	if err != nil {
		w.log.Warn("which services are not wanted could not be noted", "path", w.path, "error", err)
	}
}
