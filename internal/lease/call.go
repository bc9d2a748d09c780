package lease

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
)

// Calls travel through two files where there is no connection: the worker adds what it
// asks to one, and the owner the answers to the other. Each has one writer, which never
// changes what it has written. A reader sees whole frames only.

// Call is a question, and Reply its answer, which may come after those to later ones.
type Call struct {
	ID     uint64
	Method string
	Body   []byte
}

// Reply is the answer to a Call.
type Reply struct {
	ID     uint64
	Failed bool // Body says why
	Body   []byte
}

const (
	frameHead = 8
	maxFrame  = 64 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendFrame adds one frame: length, checksum, content.
func appendFrame(path string, content []byte) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b := make([]byte, frameHead, frameHead+len(content))
	binary.LittleEndian.PutUint32(b, uint32(len(content)))
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(content, castagnoli))
	if _, err := f.Write(append(b, content...)); err != nil {
		return fmt.Errorf("write a call: %w", err)
	}
	return nil
}

// readFrames reads whole frames from offset on, and returns where the next one begins. A
// part of a frame is left for the next time, and so is one whose content has not arrived.
func readFrames(path string, offset int64) (frames [][]byte, next int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, offset, err
	}
	defer f.Close() //nolint:errcheck // only read from
	info, err := f.Stat()
	if err != nil || info.Size() <= offset {
		return nil, offset, err
	}
	for {
		var head [frameHead]byte
		if _, err := f.ReadAt(head[:], offset); err != nil {
			return frames, offset, ignoreEOF(err)
		}
		n := binary.LittleEndian.Uint32(head[:])
		if n > maxFrame {
			return frames, offset, fmt.Errorf("%s: damaged at %d", path, offset)
		}
		content := make([]byte, n)
		if _, err := f.ReadAt(content, offset+frameHead); err != nil {
			return frames, offset, ignoreEOF(err)
		}
		if crc32.Checksum(content, castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
			return frames, offset, nil
		}
		frames, offset = append(frames, content), offset+frameHead+int64(n)
	}
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// AskFor adds a call.
func (f Folder) AskFor(c Call) error {
	b := binary.LittleEndian.AppendUint64(nil, c.ID)
	b = append(append(b, byte(len(c.Method))), c.Method...)
	return appendFrame(f.Ask(), append(b, c.Body...))
}

func parseCall(b []byte) (Call, bool) {
	if len(b) < 9 || len(b) < 9+int(b[8]) {
		return Call{}, false
	}
	n := 9 + int(b[8])
	return Call{ID: binary.LittleEndian.Uint64(b), Method: string(b[9:n]), Body: b[n:]}, true
}

// Reply adds an answer.
func (f Folder) Reply(r Reply) error {
	b := binary.LittleEndian.AppendUint64(nil, r.ID)
	failed := byte(0)
	if r.Failed {
		failed = 1
	}
	return appendFrame(f.Answer(), append(append(b, failed), r.Body...))
}

// Replies reads answers from offset on.
func (f Folder) Replies(offset int64) (replies []Reply, next int64, err error) {
	frames, next, err := readFrames(f.Answer(), offset)
	for _, b := range frames {
		if len(b) >= 9 {
			replies = append(replies, Reply{ID: binary.LittleEndian.Uint64(b), Failed: b[8] == 1, Body: b[9:]})
		}
	}
	return replies, next, err
}

// Inbox is the owner's end of the files.
type Inbox struct {
	Ask, Answer string
	offset      int64
	begun       bool
}

// Calls returns those that are new. What was asked before an owner that has answered
// already was followed by this one is passed over: the worker asks again.
func (i *Inbox) Calls() ([]Call, error) {
	if !i.begun {
		answered, err := size(i.Answer)
		if err != nil {
			return nil, err
		}
		if answered > 0 {
			if i.offset, err = size(i.Ask); err != nil {
				return nil, err
			}
		}
		i.begun = true
	}
	frames, next, err := readFrames(i.Ask, i.offset)
	i.offset = next
	var calls []Call
	for _, b := range frames {
		if c, ok := parseCall(b); ok {
			calls = append(calls, c)
		}
	}
	return calls, err
}

func size(path string) (int64, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
