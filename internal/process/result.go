package process

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// resultMarker begins the line of output that holds a result.
const resultMarker = "__DSPY_RESULT__:"

// markerWindow is how much of the end of the output is searched for it.
const markerWindow = 64 << 10

// resultError is why a result cannot be taken. Its text is for the user.
type resultError struct{ text string }

func (e resultError) Error() string { return e.text }

func badResult(format string, args ...any) error {
	return resultError{fmt.Sprintf(format, args...)}
}

// readResult returns what the program gave back: its result file if it wrote
// one, else the last marked line of its output, else nil.
func readResult(l Layout, r task.Ref, logBytes, limit int64) (task.Result, error) {
	res, err := resultFile(l.ResultPath(r), limit)
	if res != nil || err != nil || logBytes == 0 {
		return res, err
	}
	return markedLine(l.LogPath(r))
}

// errStrangeFile is returned for what is not a plain file of the task's.
var errStrangeFile = errors.New("not a regular file of the task's user")

// openOwn opens a file that a task has written or put something else in place
// of: a FIFO must not block us, nor a link lead us elsewhere.
func openOwn(path string) (f *os.File, size int64, err error) {
	f, err = os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	var st unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &st)
	if err == nil && (st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != os.Getuid()) {
		err = errStrangeFile
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, st.Size, nil
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
		return nil, badResult("the result file cannot be read: %v", err)
	}
	defer f.Close() //nolint:errcheck // only read from
	if size > limit {
		return nil, badResult("the result is %d bytes long; at most %d are allowed: write large data to a file of its own and put its path into the result", size, limit)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, badResult("the result file cannot be read: %v", err)
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
func markedLine(path string) (task.Result, error) {
	f, end, err := openOwn(path)
	if err != nil {
		return nil, nil // the output went away; then there is no result in it
	}
	defer f.Close() //nolint:errcheck // only read from
	b := make([]byte, min(end, markerWindow))
	n, err := f.ReadAt(b, end-int64(len(b)))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil
	}
	line, ok := lastMarked(b[:n])
	if !ok {
		return nil, nil
	}
	if !isObject(line) {
		return nil, badResult("what follows %s in the output is not a JSON object on one line", resultMarker)
	}
	return task.Result(bytes.Clone(bytes.TrimSpace(line))), nil
}

// lastMarked returns what follows the marker in the last line that begins with
// it.
func lastMarked(b []byte) ([]byte, bool) {
	mark := []byte(resultMarker)
	for i := bytes.LastIndex(b, mark); i >= 0; i = bytes.LastIndex(b[:i], mark) {
		if i == 0 || b[i-1] == '\n' {
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
