package queue

import (
	"errors"
	"io"
	"testing"

	"golang.org/x/sys/unix"
)

// badSector is a file of which a part cannot be read.
type badSector struct{ at int64 }

func (b badSector) ReadAt(p []byte, off int64) (int, error) {
	if off <= b.at && b.at < off+int64(len(p)) {
		return 0, unix.EIO
	}
	return len(p), nil
}

// shorter is a file that ends.
type shorter struct{ size int64 }

func (s shorter) ReadAt(p []byte, off int64) (int, error) {
	if n := s.size - off; n < int64(len(p)) {
		return int(max(n, 0)), io.EOF
	}
	return len(p), nil
}

func TestReadThrough(t *testing.T) {
	t.Parallel()
	const size = 5<<20 + 4096
	for want, r := range map[error]io.ReaderAt{unix.EIO: badSector{size - 1}, io.EOF: shorter{size - 1}, nil: shorter{size}} {
		if err := readThrough(r, size); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	if err := readThrough(badSector{size}, size); err != nil {
		t.Errorf("behind what is in use: %v", err)
	}
}
