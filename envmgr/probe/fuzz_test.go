package probe

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode"
	"unicode/utf8"
)

// holds is what holds for every decoder, whatever it is given: what it says fits on a
// line, and an error is of a kind that callers know.
func holds(t *testing.T, detail string, err error) {
	t.Helper()
	text := detail
	if err != nil {
		text = err.Error()
	}
	var broken *readError
	switch {
	case (detail == "") == (err == nil):
		t.Fatalf("%q, %v", detail, err)
	case errors.Is(err, errNotThis), errors.As(err, &broken):
		return // said in other words
	case err != nil && !errors.Is(err, ErrNotReady) && !errors.Is(err, errNewer):
		t.Fatalf("an error of no kind: %v", err)
	}
	strange := func(r rune) bool { return !unicode.IsPrint(r) }
	if len(text) > 3*maxQuote || !utf8.ValidString(text) || strings.ContainsFunc(text, strange) {
		t.Fatalf("%q", text)
	}
}

// sameInBytes: it makes no difference in what pieces an answer comes.
func sameInBytes(t *testing.T, answer []byte, decode func(io.Reader) (string, error)) {
	t.Helper()
	detail, err := decode(bytes.NewReader(answer))
	holds(t, detail, err)
	again, errAgain := decode(iotest.OneByteReader(bytes.NewReader(answer)))
	if detail != again || (err == nil) != (errAgain == nil) || err != nil && err.Error() != errAgain.Error() {
		t.Fatalf("%q, %v; byte by byte %q, %v", detail, err, again, errAgain)
	}
}

func FuzzRedis(f *testing.F) {
	for _, line := range []string{"+PONG\r\n", "-LOADING x\r\n", "-NOAUTH\r\n", "-ERR \x1b[2J", "-", "", "+", "\u202e"} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		detail, err := decodeRedis(line)
		holds(t, detail, err)
		if err == nil && !bytes.HasPrefix(line, []byte("+PONG")) && !bytes.HasPrefix(line, []byte("-NO")) {
			t.Fatalf("%q is ready: %s", line, detail)
		}
	})
}

func FuzzZooKeeper(f *testing.F) {
	for _, answer := range []string{
		"Zookeeper version: 3.8.0\nMode: standalone\n", "Zookeeper version: 3\nMode: ", "Mode: leader\n",
		"srvr is not executed because it is not in the whitelist.", "This ZooKeeper instance is not currently serving requests\n", "",
	} {
		f.Add([]byte(answer))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		sameInBytes(t, answer, decodeZooKeeper)
	})
}

func FuzzHTTP(f *testing.F) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 503 \x1b[2J\r\nContent-Length: 3\r\n\r\nwhy", "HTTP/1.1 302\r\nLocation: /\u202e\r\n\r\n",
		"HTTP/1.1 103 x\r\n\r\nHTTP/1.1 404 x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\n\r\n", "HTTP/9", "",
	} {
		f.Add([]byte(answer))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		sameInBytes(t, answer, func(r io.Reader) (string, error) { return decodeHTTP(r, "/health") })
	})
}

func FuzzKafka(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x10prob\x00\x00\x00\x00\x00\x01\x00\x03\x00\x01\x00\x08"), uint16(1))
	f.Add([]byte("\x00\x00\x00\x0fprob\x00\x00\x00\x01\x00\x00\x00\x01\x00\x01h"), uint16(8))
	f.Add([]byte("\x7f\xff\xff\xffprob"), uint16(3))
	f.Add([]byte("\x00\x00\x00\x04prob"), uint16(3))
	f.Fuzz(func(t *testing.T, frame []byte, version uint16) {
		answer, err := readKafka(bytes.NewReader(frame))
		var broken *readError
		if err != nil {
			if !errors.Is(err, errNotThis) && !errors.As(err, &broken) {
				t.Fatal(err)
			}
			answer = frame // for the two below
		}
		if len(answer) > max(maxKafka, len(frame)) {
			t.Fatalf("%d bytes", len(answer))
		}
		detail, err := decodeMetadata(answer, version)
		holds(t, detail, err)
		switch v, err := decodeAPIVersions(answer); {
		case err == nil && (v < minMetadata || v > maxMetadata):
			t.Fatalf("version %d", v)
		case err != nil:
			holds(t, "", err)
		}
	})
}

// FuzzParseURL: what is read is valid, and means the same when it is written and read
// again; what is not says so in a way that can be printed.
func FuzzParseURL(f *testing.F) {
	for _, text := range []string{"http://127.0.0.1:8082/health", "tcp://:9000", "redis://[::1%25lo]:1", "kafka://", "http://:80?x#y", "exec://\x1b", "none"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseURL(text)
		if err != nil {
			msg := err.Error()
			if !errors.Is(err, ErrSpec) || !utf8.ValidString(msg) || strings.ContainsFunc(msg, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Fatalf("%q", msg)
			}
			return
		}
		if err := s.Validate(); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		again, err := ParseURL(s.String())
		if err != nil || again.String() != s.String() || again.Kind != s.Kind || again.Host != s.Host || again.Port != s.Port || again.Path != s.Path {
			t.Fatalf("%q is %+v, then %+v, %v", text, s, again, err)
		}
	})
}
