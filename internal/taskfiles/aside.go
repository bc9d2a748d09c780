package taskfiles

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// A queue that was restored from a backup counts on from there, so that attempts of it have
// the numbers, and the files, of attempts that were made before it was restored. What
// those have left is not theirs.

// formerSuffix marks the files of attempts of a former queue. Nobody reads or removes them.
const formerSuffix = ".former"

// SetAside gives what lies where an attempt that begins will write, and what belongs to it,
// other names. Whoever still writes there goes on writing to the same file. That nothing is
// there is no error. The caller knows that the attempt has not begun.
func SetAside(logPath string) error {
	if st, err := os.Lstat(logPath); err == nil && !st.Mode().IsRegular() {
		return nil // opening it says what is wrong
	}
	mark, err := freeMark(logPath)
	if err != nil {
		return fmt.Errorf("set the output of a former queue aside: %w", err)
	}
	// The log is last: as long as it is there, there is something to set aside.
	result := strings.TrimSuffix(logPath, logSuffix) + resultSuffix
	for _, path := range []string{result, logPath + cutsSuffix, logPath + streamsSuffix, logPath} {
		if err := os.Rename(path, path+mark); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("set the output of a former queue aside: %w", err)
		}
	}
	return nil
}

// SetFolderAside is SetAside for the folder of an attempt.
func SetFolderAside(path string) error {
	mark, err := freeMark(path)
	if err == nil {
		err = os.Rename(path, path+mark)
	}
	if err != nil {
		return fmt.Errorf("set the folder of a former queue aside: %w", err)
	}
	return nil
}

// freeMark is the suffix under which there is nothing yet: a queue may be restored again.
func freeMark(path string) (string, error) {
	mark := formerSuffix
	for n := 2; ; n++ {
		_, err := os.Lstat(path + mark)
		if errors.Is(err, fs.ErrNotExist) {
			return mark, nil
		}
		if err != nil {
			return "", err
		}
		mark = formerSuffix + "-" + strconv.Itoa(n)
	}
}
