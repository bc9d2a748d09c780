package lease

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// The ledger has a line for each batch: what was done, the number of the lease, and the
// attempts. A line without its end was never handed out.
const (
	given  = "give"
	tookBk = "back"
)

// Give notes that attempts are about to be handed out. It is on disk when it returns.
func (f Folder) Give(lease uint64, refs []task.Ref) error { return f.note(given, lease, refs) }

// TakeBack notes that attempts are the worker's no more.
func (f Folder) TakeBack(lease uint64, refs []task.Ref) error { return f.note(tookBk, lease, refs) }

// LedgerIsLong says that the ledger has grown so that it is to be begun anew.
func (f Folder) LedgerIsLong() bool {
	info, err := os.Stat(f.path(ledgerFile))
	return err == nil && info.Size() >= ledgerAnewAt
}

// ledgerAnewAt is how large it grows until then. A variable for tests.
var ledgerAnewAt int64 = 1 << 20

// Rewrite begins the ledger anew, with what the worker has, by attempt, and the highest
// number of a lease. It is on disk when it returns.
func (f Folder) Rewrite(has map[task.Ref]uint64, last uint64) error {
	byLease := map[uint64][]task.Ref{last: nil}
	for ref, lease := range has {
		byLease[lease] = append(byLease[lease], ref)
	}
	var b []byte
	for _, lease := range slices.Sorted(maps.Keys(byLease)) {
		b = appendLine(b, given, lease, byLease[lease])
	}
	if err := f.put(ledgerFile, b); err != nil {
		return err
	}
	d, err := os.Open(f.Dir) // what is added from now on must not be lost with the name
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, unix.EINVAL) {
		err = nil // a file system that has no such thing
	}
	return errors.Join(err, d.Close())
}

func appendLine(b []byte, what string, lease uint64, refs []task.Ref) []byte {
	b = strconv.AppendUint(append(append(b, what...), ' '), lease, 10)
	for _, r := range refs {
		b = strconv.AppendUint(append(b, ' '), uint64(r.Seq), 10)
		b = strconv.AppendInt(append(b, '-'), int64(r.Attempt), 10)
	}
	return append(b, '\n')
}

func (f Folder) note(what string, lease uint64, refs []task.Ref) (err error) {
	// The file is not made here: where the folder is gone, so is the worker.
	file, err := os.OpenFile(f.path(ledgerFile), os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("note a lease: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	size, err := wholeLines(file, f.path(ledgerFile))
	if err != nil {
		return err
	}
	if _, err := file.Write(appendLine(nil, what, lease, refs)); err != nil {
		return errors.Join(fmt.Errorf("note a lease: %w", err), file.Truncate(size))
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("note a lease: %w", err)
	}
	return nil
}

// wholeLines cuts off what a torn write has left, and returns the size.
func wholeLines(file *os.File, path string) (int64, error) {
	info, err := file.Stat()
	if err != nil || info.Size() == 0 {
		return 0, err
	}
	r, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer r.Close() //nolint:errcheck // only read from
	last := make([]byte, 1)
	if _, err := r.ReadAt(last, info.Size()-1); err != nil || last[0] == '\n' {
		return info.Size(), err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	size := int64(bytes.LastIndexByte(b, '\n') + 1)
	return size, file.Truncate(size)
}

// Ledger reads what the worker has, by attempt, and the highest number of a lease.
func (f Folder) Ledger() (has map[task.Ref]uint64, last uint64, err error) {
	b, err := os.ReadFile(f.path(ledgerFile))
	if err != nil {
		return nil, 0, err
	}
	has, last = parseLedger(string(b))
	return has, last, nil
}

func parseLedger(text string) (has map[task.Ref]uint64, last uint64) {
	has = map[task.Ref]uint64{}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 || !strings.HasSuffix(line, "\n") {
			continue
		}
		lease, err := strconv.ParseUint(words[1], 10, 64)
		if err != nil {
			continue
		}
		last = max(last, lease)
		for _, word := range words[2:] {
			ref, ok := parseRef(word)
			switch {
			case !ok:
			case words[0] == given:
				has[ref] = lease
			case words[0] == tookBk && has[ref] == lease:
				delete(has, ref)
			}
		}
	}
	return has, last
}

// parseRef reads SEQ-ATTEMPT.
func parseRef(text string) (task.Ref, bool) {
	a, b, _ := strings.Cut(text, "-")
	seq, err := strconv.ParseUint(a, 10, 64)
	attempt, err2 := strconv.Atoi(b)
	return task.Ref{Seq: task.Seq(seq), Attempt: attempt}, err == nil && err2 == nil
}
