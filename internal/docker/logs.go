package docker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/container"
)

// Entry is a piece of output: a line with its end, or a part of a long one.
type Entry struct {
	At     time.Time
	Stderr bool
	Text   []byte // valid until the next one is read
}

// LogOptions say which part of the output is wanted.
type LogOptions struct {
	Since  time.Time // that and later; zero = from the beginning
	Follow bool      // until the container ends
	Tail   int       // only the last so many lines; 0 = all
}

// Logs reads the output of a container, and hands each entry to take, until there is
// no more of it, or take returns an error, which is returned then. It blocks only in
// reading and in take. idle is called before each read that may wait.
func (c *Client) Logs(ctx context.Context, name string, o LogOptions, take func(Entry) error, idle func() error) error {
	opts := container.LogsOptions{ShowStdout: true, ShowStderr: true, Timestamps: true, Follow: o.Follow}
	if !o.Since.IsZero() {
		opts.Since = stamp(o.Since)
	}
	if o.Tail > 0 {
		opts.Tail = strconv.Itoa(o.Tail)
	}
	body, err := c.api.ContainerLogs(ctx, name, opts)
	if err != nil {
		return c.fail("read the output of container", name, err)
	}
	defer body.Close() //nolint:errcheck // only read from
	r := bufio.NewReaderSize(body, 64<<10)
	var buf []byte
	for {
		if r.Buffered() == 0 {
			if err := idle(); err != nil {
				return err
			}
		}
		e, err := readEntry(r, &buf)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return c.fail("read the output of container", name, err)
		}
		if err := take(e); err != nil {
			return err
		}
	}
}

// stamp writes a time as the API takes it.
func stamp(t time.Time) string { return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()) }

// maxEntry bounds what a broken stream makes us allocate.
const maxEntry = 16 << 20

// readEntry reads one frame: a byte for the stream, three of nothing, the length,
// and then the time, a space, and the text. io.EOF comes between two of them only.
func readEntry(r *bufio.Reader, buf *[]byte) (Entry, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return Entry{}, err
	}
	n := binary.BigEndian.Uint32(head[4:])
	if n > maxEntry || head[0] > 3 {
		return Entry{}, errors.New("the stream is no output of a container")
	}
	if cap(*buf) < int(n) {
		*buf = make([]byte, n)
	}
	b := (*buf)[:n]
	if _, err := io.ReadFull(r, b); err != nil {
		return Entry{}, io.ErrUnexpectedEOF
	}
	if head[0] == 3 {
		return Entry{}, fmt.Errorf("the engine cannot go on: %s", bytes.TrimSpace(b))
	}
	stamp, text, _ := bytes.Cut(b, []byte{' '})
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return Entry{}, fmt.Errorf("a line of output has no time: %w", err)
	}
	return Entry{At: at, Stderr: head[0] == 2, Text: text}, nil
}
