package taskfiles

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

const (
	// logHead is how much of the beginning of a log is never cut.
	logHead = 64 << 10
	// cutsSuffix names the file beside a log that says what was cut out of it.
	cutsSuffix = ".cuts"
	blockSize  = 4096
	// maxCuts bounds the note, which has one line.
	maxCuts = 64 << 10
)

// cut is a piece that is no longer in a log. The offsets are those of the file.
type cut struct {
	From int64 `json:"from"`
	// To is where the kept output goes on. A cut of no length marks where output
	// was removed without leaving a gap in the file.
	To    int64 `json:"to"`
	Bytes int64 `json:"bytes"` // of output that were dropped
}

// CutLog drops the middle of a log that has grown beyond limit: its beginning
// and its newest half of the limit stay. The program goes on appending and
// notices nothing. What was dropped is noted beside the log first.
func CutLog(fd int, path string, size, limit int64) error {
	cuts, err := readCuts(path)
	if err != nil {
		return err
	}
	from := int64(logHead)
	to := (size - limit/2) / blockSize * blockSize
	if n := len(cuts); n > 0 && cuts[n-1].To > cuts[n-1].From {
		to = max(to, cuts[n-1].To) // maybe noted, and not done before a crash
	}
	if to <= from {
		return nil
	}
	if err := writeCuts(path, cuts, []cut{{From: from, To: to, Bytes: to - from}}); err != nil {
		return err
	}
	err = unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, to-from)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("punch a hole into the log: %w", err)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return truncateLog(fd, path, size, cuts)
	}
	return errors.Join(err, restoreCuts(path, cuts))
}

// truncateLog is for file systems without holes, such as NFS before 4.2: only
// the beginning stays, and the output goes on behind it.
func truncateLog(fd int, path string, size int64, cuts []cut) error {
	dropped := size - logHead
	for _, c := range cuts {
		dropped += c.Bytes
	}
	if err := writeCuts(path, nil, []cut{{From: logHead, To: logHead, Bytes: dropped}}); err != nil {
		return err
	}
	if err := unix.Ftruncate(fd, logHead); err != nil {
		return errors.Join(fmt.Errorf("cut the log: %w", err), restoreCuts(path, cuts))
	}
	return nil
}

func readCuts(logPath string) ([]cut, error) {
	f, _, err := openPlain(logPath + cutsSuffix)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what was cut out of a log: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read from
	b, err := io.ReadAll(io.LimitReader(f, maxCuts))
	if err != nil {
		return nil, fmt.Errorf("read what was cut out of a log: %w", err)
	}
	var cuts []cut
	if err := json.Unmarshal(b, &cuts); err != nil {
		return nil, fmt.Errorf("read what was cut out of a log: %w", err)
	}
	return cuts, nil
}

// restoreCuts takes a note back: nothing was dropped.
func restoreCuts(logPath string, old []cut) error {
	if len(old) > 0 {
		return writeCuts(logPath, nil, old)
	}
	if err := os.Remove(logPath + cutsSuffix); err != nil {
		return fmt.Errorf("note what was cut out of a log: %w", err)
	}
	return nil
}

// writeCuts replaces the note old in one step, so that a reader never sees half
// of it.
func writeCuts(logPath string, old, cuts []cut) error {
	if slices.Equal(old, cuts) {
		return nil
	}
	b, err := json.Marshal(cuts)
	if err != nil {
		return err
	}
	path := logPath + cutsSuffix
	if err := writeNew(path+newSuffix, b); err != nil {
		return fmt.Errorf("note what was cut out of a log: %w", err)
	}
	if err := os.Rename(path+newSuffix, path); err != nil {
		return fmt.Errorf("note what was cut out of a log: %w", err)
	}
	return nil
}
