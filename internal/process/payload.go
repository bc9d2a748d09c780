package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// writePayload writes the payload for the program, in one step. A repeat finds
// it there: the name is that of the attempt, and a payload never changes.
func writePayload(path string, payload []byte) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("write payload: %w", err)
	}
	_, err = f.Write(payload)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write payload: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("write payload: %w", err)
	}
	return nil
}
