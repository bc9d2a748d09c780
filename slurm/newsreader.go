package slurm

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// newsReader reads the file in which jobs say that something is new. Jobs on several nodes
// add to it at once, and NFS may let one write over the other: what it says is a hint, and
// the poll of squeue finds what is missed.
type newsReader struct {
	path string
	at   int64
}

// mostNews is the size at which the file is begun again.
const mostNews = 1 << 20

// create makes the file, before the first job is to add to it.
func (n *newsReader) create() error {
	if err := os.MkdirAll(filepath.Dir(n.path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(n.path, os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// read returns the attempts that have news. all is true when any may have.
func (n *newsReader) read() (refs []task.Ref, all bool, err error) {
	f, err := os.Open(n.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer f.Close() //nolint:errcheck // only read from
	info, err := f.Stat()
	if err != nil || info.Size() == n.at {
		return nil, false, err
	}
	if info.Size() < n.at {
		n.at, all = 0, true
	}
	b, err := io.ReadAll(io.NewSectionReader(f, n.at, info.Size()-n.at))
	if err != nil {
		return nil, all, err
	}
	whole := b[:strings.LastIndexByte(string(b), '\n')+1]
	n.at += int64(len(whole))
	for line := range strings.Lines(string(whole)) {
		ref, ok := parseRef(strings.TrimSpace(line))
		if !ok {
			all = true // two wrote at once
			continue
		}
		refs = append(refs, ref)
	}
	if n.at > mostNews {
		err = os.Truncate(n.path, 0)
		n.at, all = 0, true
	}
	return refs, all, err
}
