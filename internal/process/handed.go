package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// An attempt that was placed, and of which nothing more is known, may have been handed
// to a supervisor on another host by an owner before us. Each owner leaves a file in
// its spool before it hands over the first: a trace, by which those after it know whom
// to ask. Where only one host uses a queue there is one such file, and nobody else to
// ask; no task costs anything.

// handOverPrefix begins the name of such a file. A random part follows, so that who
// removes one removes none that was made since.
const handOverPrefix = "handed-over."

// handOversIn returns the traces in a spool.
func handOversIn(spool string) (names []string, err error) {
	entries, err := os.ReadDir(spool)
	if err != nil {
		return nil, fmt.Errorf("look whether tasks were handed over on another host: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), handOverPrefix) && e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// leaveTrace sees to it that owners on other hosts can know that something was handed
// over here. Earlier traces are in its place. Only those are removed that were there
// before it: two that do this at once do not remove each other's.
func (b *Backend) leaveTrace() error {
	b.trace.Lock()
	defer b.trace.Unlock()
	if b.traced {
		return nil
	}
	if err := os.MkdirAll(b.spool, 0o700); err != nil {
		return fmt.Errorf("make spool directory: %w", err)
	}
	before, err := handOversIn(b.spool)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(b.spool, handOverPrefix+randomID()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("note in the spool that tasks are handed over on this host: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("note in the spool that tasks are handed over on this host: %w", err)
	}
	b.traced = true
	return removeTraces(b.spool, before)
}

// removeTraces removes traces that nobody needs any more.
func removeTraces(spool string, names []string) error {
	for _, name := range names {
		if err := os.Remove(filepath.Join(spool, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove an old trace: %w", err)
		}
	}
	return nil
}
