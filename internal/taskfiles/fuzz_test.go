package taskfiles

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// FuzzMarkedLine looks for a result in output of any shape, with windows of any
// size, and compares with who reads all of it.
func FuzzMarkedLine(f *testing.F) {
	f.Add([]byte(ResultMarker+`{"n":1}`), uint16(20))
	f.Add([]byte("x\n"+ResultMarker+"{\"n\":1}\nbye"), uint16(3))
	f.Add([]byte(ResultMarker+"{\"n\":1}\n"+ResultMarker+"{\"n\":2}\n"), uint16(30))
	f.Add([]byte("x"+ResultMarker+"{}\n"+ResultMarker), uint16(0))
	f.Add([]byte(ResultMarker+strings.Repeat("{", 100)+"}"), uint16(9))
	f.Fuzz(func(t *testing.T, output []byte, window uint16) {
		got, ok, err := lastMarked(bytes.NewReader(output), int64(len(output)), int64(window), 1<<10)
		if err != nil {
			t.Fatal(err)
		}
		want, at := lastMarkedOfAll(output)
		switch {
		case ok && (at < 0 || !bytes.Equal(got, want)):
			t.Fatalf("found %q, and the last is %q at %d", got, want, at)
		case !ok && at >= 0 && at >= len(output)-int(window):
			t.Fatalf("%q at %d is not found in the last %d of %d bytes", want, at, window, len(output))
		}
	})
}

// lastMarkedOfAll returns what follows the marker in the last line that begins
// with it, and where that line begins; -1 where there is none.
func lastMarkedOfAll(output []byte) (rest []byte, at int) {
	at = -1
	for pos := 0; ; {
		line, _, more := bytes.Cut(output[pos:], []byte("\n"))
		if after, ok := bytes.CutPrefix(line, []byte(ResultMarker)); ok {
			rest, at = after, pos
		}
		if !more {
			return rest, at
		}
		pos += len(line) + 1
	}
}

// FuzzResult: what a task has written is taken if it is one JSON object, and then
// whoever asks for it can read it.
func FuzzResult(f *testing.F) {
	for _, seed := range []string{`{}`, ` {"a": [1, null]}` + "\n", `[]`, `{} {}`, "\xef\xbb\xbf{}", `{"a": NaN}`, "{\"a\": \"\xff\"}", strings.Repeat(`{"a":`, 200)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var object map[string]json.RawMessage
		err := json.Unmarshal(b, &object)
		if taken, is := isObject(b), err == nil && object != nil; taken != is {
			t.Fatalf("%q is taken as a result: %t; it is a JSON object: %t, %v", b, taken, is, err)
		}
	})
}
