package rpc

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
)

// Body reads the whole body of a request. release is to be called when it is no
// longer used, also after an error.
func (h *HTTP) Body(w http.ResponseWriter, r *http.Request) (body []byte, release func(), err error) {
	in := &intake{room: h.room}
	switch encoding := r.Header.Get("Content-Encoding"); {
	case encoding != "" && !strings.EqualFold(encoding, "identity"):
		return nil, in.release, HTTPErrorf(http.StatusUnsupportedMediaType, "invalid", "the body has Content-Encoding %s; send it as it is", shortened(encoding))
	case strings.HasPrefix(strings.ToLower(r.Header.Get("Content-Type")), "multipart/"):
		return nil, in.release, HTTPErrorf(http.StatusUnsupportedMediaType, "invalid", "the body is a form; send a JSON object (curl: --json instead of -F)")
	case r.ContentLength > h.opts.MaxBody:
		return nil, in.release, h.tooLarge() // unread: the client may be waiting to be asked for it
	}
	body, err = in.read(http.MaxBytesReader(w, r.Body, h.opts.MaxBody), r.ContentLength)
	return body, in.release, h.bodyError(err)
}

func (h *HTTP) tooLarge() error {
	return HTTPErrorf(http.StatusRequestEntityTooLarge, "too_large",
		"the body is larger than %d bytes; put long data into a file, and its path into the payload", h.opts.MaxBody)
}

func (h *HTTP) bodyError(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*httpError](err); ok {
		return err
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return h.tooLarge()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return HTTPErrorf(http.StatusRequestTimeout, "timeout", "the body did not come within %s", h.opts.ReadTimeout)
	}
	return HTTPErrorf(http.StatusBadRequest, "invalid", "the body broke off: %v", err)
}

// errNoRoom sends a request away while others fill the memory for bodies.
var errNoRoom = HTTPErrorf(http.StatusServiceUnavailable, "unavailable", "too much is being sent at this moment; try again in a moment")

// intake holds a body, and the room that it takes. Room is taken for what has
// come, not for what was announced, so that a client that sends slowly keeps
// nobody out.
type intake struct {
	room  room
	taken int64
}

type room interface {
	TryAcquire(n int64) bool
	Release(n int64)
}

func (in *intake) release() {
	in.room.Release(in.taken)
	in.taken = 0
}

// read reads to the end. length is what the client announced; -1 = nothing.
func (in *intake) read(from io.Reader, length int64) ([]byte, error) {
	const first, most = 4 << 10, 1 << 20
	var body []byte
	for {
		if len(body) == cap(body) {
			grown := max(first, 2*cap(body))
			if left := length + 1 - int64(len(body)); left > 0 && left < most {
				grown = len(body) + int(left) // with a byte more, in which the end is seen
			}
			if !in.room.TryAcquire(int64(grown - cap(body))) {
				return nil, errNoRoom
			}
			in.taken += int64(grown - cap(body))
			body = append(make([]byte, 0, grown), body...)
		}
		n, err := from.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case errors.Is(err, io.EOF):
			return body, nil
		case err != nil:
			return nil, err
		}
	}
}
