package probe

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

const (
	// maxHTTP bounds an answer, with its head.
	maxHTTP = 64 << 10
	// maxInterim bounds the answers before the answer: 100, 103.
	maxInterim = 8
	// maxExcuse bounds what is read of why not.
	maxExcuse = 1024
	// drainFor is how long the rest of a good answer is awaited: a connection that is
	// closed with something unread is reset, and some servers log that each time.
	drainFor = 100 * time.Millisecond
)

// askHTTP asks with the reader and the writer of net/http, and without its client:
// that one has goroutines which end some time after the answer.
func askHTTP(p *peer, s Spec) (string, error) {
	req, err := http.NewRequestWithContext(p.ctx, http.MethodGet, "http://"+hostHeader(s)+s.path(), http.NoBody)
	if err != nil {
		return "", wrong("%q cannot be asked for: %v", s.path(), err)
	}
	req.Close = true
	req.Header.Set("User-Agent", "envmgr-probe")
	var request bytes.Buffer
	if err := req.Write(&request); err != nil {
		return "", wrong("%q cannot be asked for: %v", s.path(), err)
	}
	if err := p.send(request.Bytes()); err != nil {
		return "", err
	}
	detail, err := decodeHTTP(p, s.path())
	if err == nil {
		_ = p.SetReadDeadline(time.Now().Add(drainFor))
		_, _ = io.Copy(io.Discard, io.LimitReader(p, maxHTTP)) // whatever it is, the answer was good
	}
	return p.judged(detail, err, "HTTP")
}

// hostHeader is the name that the server is called by. Some answer only to names that
// they know, and a check inside the container would say localhost.
func hostHeader(s Spec) string {
	host := s.Host
	if host == "" {
		host = localhost
	}
	return net.JoinHostPort(host, strconv.Itoa(s.port()))
}

// decodeHTTP judges an answer by its head, and reads what an answer that is not good
// gives as its reason.
func decodeHTTP(answer io.Reader, path string) (string, error) {
	source := &watched{Reader: answer}
	resp, err := readFinal(bufio.NewReader(io.LimitReader(source, maxHTTP))) //nolint:bodyclose // it hangs on nothing, and closing would read all of it
	switch {
	case err == nil:
		return judgeHTTP(resp, path)
	case source.err == nil || !bytes.HasPrefix(source.begin, []byte("HTTP/")[:min(5, len(source.begin))]):
		return "", errNotThis
	default:
		return "", &readError{source.err}
	}
}

// readFinal reads the head of the answer that others may precede.
func readFinal(r *bufio.Reader) (*http.Response, error) {
	for range maxInterim {
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, err
		}
	}
	return nil, errors.New("no answer behind those that announce one")
}

// judgeHTTP judges an answer by its status.
func judgeHTTP(resp *http.Response, path string) (string, error) {
	said := "HTTP " + plain(resp.Status)
	switch code := resp.StatusCode; {
	case code >= 200 && code < 300:
		return said, nil
	case code >= 300 && code < 400:
		return because(said+", which was not followed", resp.Header.Get("Location")), nil
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		said += " at " + plain(path) + ", which wants to know who asks; name a path that everybody may read"
	case code == http.StatusNotFound:
		said += " at " + plain(path) + "; is that the path of its health?"
	}
	excuse, _ := io.ReadAll(io.LimitReader(resp.Body, maxExcuse)) // what there is of it
	if bytes.HasPrefix(bytes.TrimSpace(excuse), []byte("<")) {
		excuse = nil // a page for a browser
	}
	return "", fail(ErrNotReady, nil, "%s", because(said, string(excuse)))
}

// watched remembers how what is read began, and the error that reading ended with.
type watched struct {
	io.Reader
	begin []byte
	err   error
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.Reader.Read(b)
	if room := maxBytes - len(w.begin); room > 0 {
		w.begin = append(w.begin, b[:min(n, room)]...)
	}
	if err != nil {
		w.err = err
	}
	return n, err
}
