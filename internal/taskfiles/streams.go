package taskfiles

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// Where standard output and error share a log but were told apart on their way, a file
// beside it says which is which. It is a list of marks: from this offset on it is that
// stream. Marks are written before what they speak of, so a reader never finds output
// whose mark is still to come; those beyond the end of the log mean nothing yet.

// streamsSuffix names the file beside a log that tells its streams apart.
const streamsSuffix = ".streams"

// A Stream is where a piece of output was written to.
type Stream uint8

// The streams.
const (
	Both Stream = iota // they were not told apart
	Stdout
	Stderr
)

// String returns the name on the wire.
func (s Stream) String() string {
	switch s {
	case Stdout:
		return "stdout"
	case Stderr:
		return "stderr"
	default:
		return "output"
	}
}

const (
	markSize = 8
	// maxMarks bounds the file, to 8 MiB. What comes after is not told apart.
	maxMarks = 1 << 20
)

// mark packs an offset and the stream from there on.
func mark(offset int64, s Stream) uint64 { return uint64(offset)<<2 | uint64(s) }

// Marks writes the marks of one log.
type Marks struct {
	f     *os.File
	n     int64
	last  Stream
	ready []byte // to be written
}

// OpenMarks opens the marks of a log of which so many bytes are there. Marks beyond were
// written ahead of output that never came, and are dropped.
func OpenMarks(path string, size int64) (*Marks, error) {
	f, err := os.OpenFile(path+streamsSuffix, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the marks of a log: %w", err)
	}
	m := &Marks{f: f}
	st, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	m.n = st.Size() / markSize
	for m.n > 0 {
		at, s, err := readMark(f, m.n-1)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("read the marks of a log: %w", err), f.Close())
		}
		if at < size {
			m.last = s
			break
		}
		m.n--
	}
	if err := f.Truncate(m.n * markSize); err != nil {
		return nil, errors.Join(fmt.Errorf("drop marks of a log: %w", err), f.Close())
	}
	return m, nil
}

// Set says that what comes from the offset on is of that stream. Write stores it.
func (m *Marks) Set(offset int64, s Stream) {
	if m.n+int64(len(m.ready)/markSize) >= maxMarks-1 {
		s = Both
	}
	if first := m.n == 0 && len(m.ready) == 0; !first && s == m.last || first && s == Both {
		return
	}
	m.last = s
	m.ready = binary.LittleEndian.AppendUint64(m.ready, mark(offset, s))
}

// Write stores what was set.
func (m *Marks) Write() error {
	if len(m.ready) == 0 {
		return nil
	}
	if _, err := m.f.WriteAt(m.ready, m.n*markSize); err != nil {
		return fmt.Errorf("write the marks of a log: %w", err)
	}
	m.n += int64(len(m.ready) / markSize)
	m.ready = m.ready[:0]
	return nil
}

// Forget says that the offsets of the log are others now: nothing is told apart any more.
func (m *Marks) Forget() error {
	m.n, m.last, m.ready = 0, Both, nil
	return m.f.Truncate(0)
}

// Close closes the file.
func (m *Marks) Close() error { return m.f.Close() }

// ShareLog makes a log and its marks, if they are not there, and gives them a second name
// in a folder: who may write there may not be shown the folder of the first.
func ShareLog(path string, in *os.File, as string) error {
	for _, suffix := range []string{"", streamsSuffix} {
		f, err := os.OpenFile(path+suffix, os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return fmt.Errorf("make a log: %w", err)
		}
		if err := f.Close(); err != nil {
			return fmt.Errorf("make a log: %w", err)
		}
		if err := unix.Linkat(unix.AT_FDCWD, path+suffix, int(in.Fd()), as+suffix, 0); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("give a log a second name: %w", err)
		}
	}
	return nil
}

// readMark reads a mark by its number.
func readMark(f *os.File, n int64) (offset int64, s Stream, err error) {
	var b [markSize]byte
	if _, err := f.ReadAt(b[:], n*markSize); err != nil {
		return 0, Both, err
	}
	v := binary.LittleEndian.Uint64(b[:])
	return int64(v >> 2), Stream(v & 3), nil
}

// Stream says of which stream the output at an offset is, and up to where. The end is
// math.MaxInt64 where no other stream follows yet; it is to be asked for again then after
// more was read.
func (l *Log) Stream(off int64) (s Stream, until int64, err error) {
	f, err := os.OpenFile(l.path+streamsSuffix, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return Both, math.MaxInt64, nil
	}
	if err != nil {
		return Both, 0, fmt.Errorf("open the marks of a log: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read from
	st, err := f.Stat()
	if err != nil {
		return Both, 0, err
	}
	// The first mark behind the offset.
	lo, hi := int64(0), st.Size()/markSize
	until = math.MaxInt64
	for lo < hi {
		mid := (lo + hi) / 2
		at, _, err := readMark(f, mid)
		if err != nil {
			return Both, 0, fmt.Errorf("read the marks of a log: %w", err)
		}
		if at > off {
			hi, until = mid, at
		} else {
			lo = mid + 1
		}
	}
	if lo == 0 {
		return Both, until, nil
	}
	_, s, err = readMark(f, lo-1)
	return s, until, err
}
