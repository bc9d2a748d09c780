package docker

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

// Each text of the table is found by its own line, and by no earlier one that means
// something else.
func TestTextsAreTold(t *testing.T) {
	t.Parallel()
	for _, x := range texts {
		if got := kindByText(x.doing, "Error: "+strings.ToUpper(x.words)+" (x)"); !errors.Is(got, x.kind) {
			t.Errorf("%q while doing %q is %v, want %v", x.words, x.doing, got, x.kind)
		}
		if x.seen == "" {
			t.Errorf("%q: nobody says where it was seen", x.words)
		}
	}
	if got := kindByText(doingStart, "something else"); got != nil {
		t.Errorf("what is not known is %v", got)
	}
}

// frame is a piece of output as engines send it.
func frame(stream byte, text string) []byte {
	b := append([]byte{stream, 0, 0, 0, 0, 0, 0, 0}, text...)
	binary.BigEndian.PutUint32(b[4:], uint32(len(text)))
	return b
}

func TestEntries(t *testing.T) {
	t.Parallel()
	const stamp = "2026-01-02T03:04:05.000000007Z"
	var buf []byte
	read := func(b []byte) (Entry, error) { return readEntry(bufio.NewReader(bytes.NewReader(b)), &buf) }
	e, err := read(frame(2, stamp+" a b\n"))
	if want := time.Date(2026, 1, 2, 3, 4, 5, 7, time.UTC); err != nil || !e.Stderr || string(e.Text) != "a b\n" || !e.At.Equal(want) {
		t.Errorf("%+v, %v", e, err)
	}
	if e, err := read(frame(1, stamp+" ")); err != nil || e.Stderr || len(e.Text) != 0 {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := read(nil); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	whole := frame(1, stamp+" cut")
	for _, bad := range [][]byte{whole[:4], whole[:20], frame(7, stamp+" x"), frame(3, "broken"), frame(1, "no time")} {
		if e, err := read(bad); err == nil || errors.Is(err, io.EOF) && len(bad) > 4 {
			t.Errorf("%q is read as %+v, %v", bad, e, err)
		}
	}
}

// A pull is whole only if its stream says nothing else.
func TestPullStream(t *testing.T) {
	t.Parallel()
	var last Progress
	stream := `{"status":"Pulling fs layer","id":"a"}
{"status":"Downloading","id":"a","progressDetail":{"current":5,"total":10}}
{"status":"Downloading","id":"b","progressDetail":{"current":1,"total":2}}
{"status":"Download complete","id":"b"}
`
	if err := readPull(strings.NewReader(stream), func(p Progress) { last = p }); err != nil || last != (Progress{Current: 7, Total: 12}) {
		t.Errorf("%+v, %v", last, err)
	}
	for _, bad := range []string{stream + `{"errorDetail":{"message":"manifest unknown"},"error":"x"}`, `{"error":"manifest unknown"}`, `{"status":"Down`} {
		if err := readPull(strings.NewReader(bad), func(Progress) {}); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

func TestPhases(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]Phase{"created": Created, "configured": Created, "running": Running, "paused": Running, "stopping": Running, "exited": Exited, "stopped": Exited, "dead": Exited} {
		if got := phaseOf(word); got != want {
			t.Errorf("%s is %d, want %d", word, got, want)
		}
	}
}

func TestHosts(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"", "unix:///x.sock", "tcp://127.0.0.1:2375"} {
		if _, err := New(Options{Host: good}); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"ssh://host", "/x.sock", "tcp//x"} {
		if _, err := New(Options{Host: bad}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// A container that others are linked to is listed by its own name.
func TestOwnName(t *testing.T) {
	t.Parallel()
	for want, names := range map[string][]string{"db": {"/app/db", "/db"}, "x": {"/x"}, "": {}} {
		if got := ownName(names); got != want {
			t.Errorf("%v is called %q, want %q", names, got, want)
		}
	}
}

// A network that is missing is told from a container and an image that are.
func TestNoNetwork(t *testing.T) {
	t.Parallel()
	for doing, text := range map[string]string{
		doingStart: "network 4c5f9 not found", doingCreate: "network ours not found", doingJoin: "network ours not found", doingNetwork: "whatever it is called",
	} {
		if got := kindOf(doing, fmt.Errorf("%w: %s", errdefs.ErrNotFound, text)); !errors.Is(got, ErrNoNetwork) {
			t.Errorf("%s, %s: %v", doing, text, got)
		}
	}
	if got := kindOf(doingJoin, fmt.Errorf("%w: no such container: x", errdefs.ErrNotFound)); !errors.Is(got, ErrNoContainer) {
		t.Errorf("a container that is missing: %v", got)
	}
}

// Where the engine is, beside what its socket is called.
func TestMachine(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{"unix:///x.sock": "", "tcp://127.0.0.1:2375": "", "tcp://localhost:2375": "", "tcp://lab7:2376": "lab7", "tcp://[fd00::7]:2376": "fd00::7"} {
		c, err := New(Options{Host: host})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Machine(); got != want {
			t.Errorf("%s is on %q, want %q", host, got, want)
		}
	}
}
