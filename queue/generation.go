package queue

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// The database has generations. CURRENT names the one in use, and a take-over
// of the queue copies it to the next and moves CURRENT: a former owner that was
// only stalled then writes into a file that nobody reads.
const (
	currentFile     = "CURRENT"
	firstGeneration = "queue-000001.db"
)

var generationPattern = regexp.MustCompile(`^queue-([0-9]{6,})\.db$`)

func generationName(n int) string { return fmt.Sprintf("queue-%06d.db", n) }

// generationOf returns the number in the name of a database; 0 = it is none.
func generationOf(name string) int {
	m := generationPattern.FindStringSubmatch(name)
	if m == nil {
		return 0
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		return 0
	}
	return n
}

// currentGeneration returns the generation in use, without a look at its database.
func currentGeneration(dir string) (int, error) {
	b, err := readSmall(filepath.Join(dir, currentFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 1, nil
	}
	return generationOf(strings.TrimSpace(string(b))), err
}

// unusedGeneration returns a number above all that were ever used.
func unusedGeneration(dir string) (int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	last := 0
	for _, e := range entries {
		last = max(last, generationOf(e.Name()))
	}
	return last + 1, nil
}

// readCurrent returns the name of the database in use. Without CURRENT it is the
// first: the queue is new, or its making was cut short. With CURRENT there has been
// a database, and if that is gone an empty one must not take its place in silence; nor
// may an outdated one where CURRENT is gone.
func readCurrent(dir string) (string, error) {
	b, err := readSmall(filepath.Join(dir, currentFile))
	if errors.Is(err, fs.ErrNotExist) {
		return firstGeneration, onlyFirst(dir)
	}
	if err != nil {
		return "", fmt.Errorf("read which database is in use: %w", err)
	}
	name := strings.TrimSpace(string(b))
	if !generationPattern.MatchString(name) {
		return "", task.Errorf(task.CodeInternal, "%s names %q, which is not a queue database; write the name of the newest queue-*.db file into it", filepath.Join(dir, currentFile), name)
	}
	if _, err := os.Stat(filepath.Join(dir, name)); errors.Is(err, fs.ErrNotExist) {
		return "", task.Errorf(task.CodeInternal, "%w", &goneError{path: filepath.Join(dir, name)})
	}
	return name, nil
}

// Present says whether there is anything of a queue in a folder, damaged or not.
func Present(dir string) bool {
	if _, err := os.Lstat(filepath.Join(dir, currentFile)); !errors.Is(err, fs.ErrNotExist) {
		return true
	}
	names, err := generations(dir)
	return len(names) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist)
}

// Size is how large the database in use is, in bytes; 0 where it cannot be told.
func Size(dir string) int64 {
	name, err := readCurrent(dir)
	if err != nil {
		return 0
	}
	return fileSize(filepath.Join(dir, name))
}

// onlyFirst returns an error if there is another database than the first. One that was
// being put in use in the place of none is not counted: with an empty file in the first
// place a restoration was cut short.
func onlyFirst(dir string) error {
	names, err := generations(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find out which database is in use: %w", err)
	}
	newest := slices.MaxFunc(append(names, firstGeneration), func(a, b string) int { return generationOf(a) - generationOf(b) })
	info, err := os.Stat(filepath.Join(dir, firstGeneration))
	if newest == firstGeneration || err == nil && info.Size() == 0 {
		return nil
	}
	return task.Errorf(task.CodeInternal,
		"%s is not there, and without it nobody knows which database is in use; if nobody has put an older one there, that is %s, the newest: write its name into CURRENT",
		filepath.Join(dir, currentFile), newest)
}

// goneError is for a database in use that is not there.
type goneError struct{ path string }

// Error says what can be done.
func (e *goneError) Error() string {
	dir, name := filepath.Split(e.path)
	return fmt.Sprintf("%s names %s, which is not there; put it back, restore a backup with --force, or write the name of the newest queue-*.db file into CURRENT (to begin anew with an empty queue, move %s out of the way)",
		filepath.Join(dir, currentFile), name, filepath.Clean(dir))
}

// writeCurrent makes name the database in use, if it is not already. That it says so does
// not mean that it was made durable: whoever wrote it may have died before.
func writeCurrent(dir, name string) error {
	path := filepath.Join(dir, currentFile)
	if b, err := readSmall(path); err == nil && strings.TrimSpace(string(b)) == name {
		return syncDir(dir) // the content is synced before it gets the name
	}
	return writeFileAtomic(path, []byte(name+"\n"))
}

// writeFileAtomic replaces a file so that after a crash, a power failure
// included, either the old or the new content is there.
func writeFileAtomic(path string, content []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, tempPattern(filepath.Base(path)))
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // best effort; the error that counts is being returned
		}
	}()
	if _, err = f.Write(content); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
