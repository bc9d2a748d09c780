package taskfiles

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// WritePayload writes the payload for the program, in one step. A repeat finds
// it there: the name is that of the attempt, and a payload never changes.
func WritePayload(path string, payload []byte) error {
	tmp := path + newSuffix
	if err := writeNew(tmp, payload); err != nil {
		return fmt.Errorf("write payload: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("write payload: %w", err)
	}
	return nil
}
