package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// WriteReference writes the Reference to a file, for its owner alone, making the
// folder if need be. A file that is there is replaced only if replace is set,
// else that is an error with CodeConflict. At no moment, a crash included, is
// there half a file.
func WriteReference(path string, replace bool) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // a link stays one
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the folder of the configuration file: %w", err)
	}
	temp, err := writeTemp(dir, Reference())
	if err != nil {
		return fmt.Errorf("write the configuration file: %w", err)
	}
	if replace {
		err = os.Rename(temp, path)
	} else {
		err = moveNew(temp, path)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrExist):
		err = task.Errorf(task.CodeConflict, "%s is there already, and may have settings of yours; --force replaces it", path)
	default:
		err = fmt.Errorf("write the configuration file: %w", err)
	}
	return errors.Join(err, os.Remove(temp))
}

// writeTemp writes a file that only its owner can read, on disk when it returns.
func writeTemp(dir, text string) (name string, err error) {
	f, err := os.CreateTemp(dir, ".config-*.toml")
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// moveNew moves a file to where none is. The place is taken first, by an empty
// file, which is a configuration too: a rename alone would replace what is there.
func moveNew(from, to string) error {
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Rename(from, to))
}
