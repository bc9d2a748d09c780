package lease

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// A frame is a length, a checksum, and the content. A file of frames has one writer, which
// adds frames, or puts a new file into its place; it changes nothing that it has written.
const (
	frameHead = 8
	maxFrame  = 64 << 20
)

// anewAt is how large a file grows until a new one is begun. A variable for tests.
var anewAt int64 = 16 << 20

// errDamaged is returned for what no frame can be, and behind which nothing can be read.
var errDamaged = errors.New("it is damaged")

// ErrTooLarge is returned for a call, or a reply, that no frame holds.
var ErrTooLarge = errors.New("too large to be sent")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendFrame adds a frame to b.
func appendFrame(b, content []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(content)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(content, castagnoli))
	return append(b, content...)
}

// readFrames reads whole frames from offset on, and returns where the next one begins. A
// part of a frame is left for the next time, and so is one whose content has not arrived.
func readFrames(f *os.File, offset, size int64) (frames [][]byte, next int64, err error) {
	for {
		var head [frameHead]byte
		if size-offset < frameHead {
			return frames, offset, nil
		}
		if _, err := f.ReadAt(head[:], offset); err != nil {
			return frames, offset, ignoreEOF(err)
		}
		n := int64(binary.LittleEndian.Uint32(head[:]))
		if n > maxFrame {
			return frames, offset, fmt.Errorf("read %s at %d: %w", f.Name(), offset, errDamaged)
		}
		if size-offset-frameHead < n {
			return frames, offset, nil
		}
		content := make([]byte, n)
		if _, err := f.ReadAt(content, offset+frameHead); err != nil {
			return frames, offset, ignoreEOF(err)
		}
		if crc32.Checksum(content, castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
			return frames, offset, nil
		}
		frames, offset = append(frames, content), offset+frameHead+n
	}
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// frameReader reads frames as they come.
type frameReader struct {
	path   string
	offset int64
	file   os.FileInfo // that was read last
}

// read returns the frames that are new. Of a new file all are.
func (r *frameReader) read() ([][]byte, error) {
	f, err := os.Open(r.path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read from
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if r.file != nil && !os.SameFile(r.file, info) || info.Size() < r.offset {
		r.offset = 0
	}
	r.file = info
	frames, next, err := readFrames(f, r.offset, info.Size())
	r.offset = next
	return frames, err
}

// frameWriter adds frames. It is not safe for use by several at a time.
type frameWriter struct {
	path  string
	size  int64
	whole bool // nothing but whole frames is in the file, as far as is known
}

// begin cuts off what somebody before us has left of a frame, behind which nothing would
// ever be read, and returns the frames.
func (w *frameWriter) begin() (frames [][]byte, err error) {
	f, err := os.OpenFile(w.path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	frames, w.size, err = readFrames(f, 0, info.Size())
	if err != nil && !errors.Is(err, errDamaged) {
		return nil, err
	}
	if w.size < info.Size() {
		if err := f.Truncate(w.size); err != nil {
			return nil, err
		}
	}
	w.whole = true
	return frames, nil
}

// add adds a frame, or nothing.
func (w *frameWriter) add(content []byte) (err error) {
	if len(content) > maxFrame {
		return fmt.Errorf("%d bytes: %w", len(content), ErrTooLarge)
	}
	if !w.whole {
		if _, err := w.begin(); err != nil {
			return err
		}
	}
	// The file is not made here: where the folder is gone, so is the worker.
	f, err := os.OpenFile(w.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	frame := appendFrame(nil, content)
	if _, err := f.Write(frame); err != nil {
		cut := f.Truncate(info.Size())
		w.whole = cut == nil
		return errors.Join(fmt.Errorf("write a call: %w", err), cut)
	}
	w.size = info.Size() + int64(len(frame))
	return nil
}

// long says that a new file is to be begun.
func (w *frameWriter) long() bool { return w.size >= anewAt }

// anew puts a file into the place of this one, with these frames only.
func (w *frameWriter) anew(contents [][]byte) error {
	var b []byte
	for _, c := range contents {
		if len(c) > maxFrame {
			return fmt.Errorf("%d bytes: %w", len(c), ErrTooLarge)
		}
		b = appendFrame(b, c)
	}
	if err := WriteWhole(w.path, b); err != nil {
		return err
	}
	w.size, w.whole = int64(len(b)), true
	return nil
}
