package taskfiles

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// ResultMarker begins the line of output that holds a result.
const ResultMarker = "__DSPY_RESULT__:"

// markerWindow is how much of the end of the output is searched for it, unless it
// begins within a long line.
const markerWindow = 64 << 10

// resultError is why a result cannot be taken. Its text is for the user.
type resultError struct{ text string }

func (e resultError) Error() string { return e.text }

func badResult(format string, args ...any) error {
	return resultError{fmt.Sprintf(format, args...)}
}

// ErrUnread is returned for a result that may be good and could not be read now:
// out of file descriptors, a file server that is restarted, a bad disk. The
// cause is wrapped.
var ErrUnread = errors.New("could not be read")

// unreadable turns an error of open(2) or read(2) into one of the two kinds. The
// few that say something about the file itself cannot pass; all others may.
func unreadable(what string, err error) error {
	for _, e := range []error{unix.EACCES, unix.EPERM, unix.EISDIR, unix.ENXIO, unix.ENODEV} {
		if errors.Is(err, e) {
			return badResult("%s cannot be read: %v", what, err)
		}
	}
	return fmt.Errorf("%s %w: %w", what, ErrUnread, err)
}

// ReadResult returns what the program gave back: its result file if it wrote
// one, else the last marked line of its output, else nil. The error is a
// resultError, whose cause is the program, or an ErrUnread.
func ReadResult(l Layout, r task.Ref, logBytes, limit int64) (task.Result, error) {
	return ReadResultOf(l.ResultPath(r), l.LogPath(r), logBytes, limit)
}

// ReadResultOf is ReadResult for files that are elsewhere.
func ReadResultOf(resultPath, logPath string, logBytes, limit int64) (task.Result, error) {
	res, err := resultFile(resultPath, limit)
	if res != nil || err != nil || logBytes == 0 {
		return res, err
	}
	return markedLine(logPath, limit)
}

// resultFile reads the result file; nil if there is none.
func resultFile(path string, limit int64) (task.Result, error) {
	f, size, err := openOwn(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, unix.ELOOP):
		return nil, badResult("the result file is a symbolic link: write the JSON object to the file that DSPY_RESULT_FILE names")
	case errors.Is(err, errStrangeFile):
		return nil, badResult("the result file is %v", err)
	case err != nil:
		return nil, unreadable("the result file", err)
	}
	defer f.Close() //nolint:errcheck // only read from
	if size > limit {
		return nil, badResult("the result is %d bytes long; at most %d are allowed: write large data to a file of its own and put its path into the result", size, limit)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, unreadable("the result file", err)
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return nil, nil // opened and not written: no result
	}
	if !isObject(b) {
		return nil, badResult("the result file does not hold a JSON object: write {...}, for example with json.dump, and nothing else")
	}
	return task.Result(b), nil
}

// markedLine finds the last marked line at the end of the output.
func markedLine(path string, limit int64) (task.Result, error) {
	f, end, err := openOwn(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ELOOP), errors.Is(err, errStrangeFile):
		return nil, nil // the output went away; then there is no result in it
	case err != nil:
		return nil, unreadable("the end of the output, in which a result may be,", err)
	}
	defer f.Close() //nolint:errcheck // only read from
	line, ok, err := lastMarked(f, end, markerWindow, limit)
	switch {
	case err != nil:
		return nil, unreadable("the end of the output, in which a result may be,", err)
	case !ok:
		return nil, nil
	case int64(len(line)) > limit:
		return nil, badResult("the result is longer than the %d bytes that are allowed: write large data to a file of its own and put its path into the result", limit)
	case !isObject(line):
		return nil, badResult("what follows %s in the output is not a JSON object on one line", ResultMarker)
	}
	return task.Result(bytes.Clone(bytes.TrimSpace(line))), nil
}

// lastMarked returns what follows the marker in the last line that begins with
// it, within a window at the end of the output. Where the window cuts a line that
// ends like an object, that line may be the result: it is read again with room
// for the largest.
func lastMarked(f io.ReaderAt, end, window, limit int64) (line []byte, ok bool, err error) {
	from := max(end-window-1, 0) // one more: what is before a line tells that it is one
	b := make([]byte, end-from)
	n, err := f.ReadAt(b, from)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, false, err
	}
	b = b[:n]
	if line, ok := markedIn(b, from == 0); ok {
		return line, true, nil
	}
	most := limit + markerWindow
	if cut, _, _ := bytes.Cut(b, []byte("\n")); from == 0 || window >= most || !bytes.HasSuffix(bytes.TrimSpace(cut), []byte("}")) {
		return nil, false, nil
	}
	return lastMarked(f, end, most, limit)
}

// markedIn looks for the last marked line in a part of the output, which may be
// all of it.
func markedIn(b []byte, all bool) ([]byte, bool) {
	mark := []byte(ResultMarker)
	for i := bytes.LastIndex(b, mark); i >= 0; i = bytes.LastIndex(b[:i], mark) {
		if i == 0 && all || i > 0 && b[i-1] == '\n' {
			line, _, _ := bytes.Cut(b[i+len(mark):], []byte("\n"))
			return line, true
		}
	}
	return nil, false
}

// isObject says whether b is one JSON object.
func isObject(b []byte) bool {
	t := bytes.TrimLeft(b, " \t\r\n")
	return len(t) > 0 && t[0] == '{' && json.Valid(b)
}
