package taskfiles

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func readAll(t *testing.T, l *Log, off int64) string {
	t.Helper()
	var out bytes.Buffer
	buf := make([]byte, 100_000)
	for {
		n, next, err := l.Read(buf, off)
		out.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			return out.String()
		}
		must(t, err)
		off = next
	}
}

func openLog(t *testing.T, path string) *Log {
	t.Helper()
	l, err := OpenLog(path)
	must(t, err)
	t.Cleanup(func() { must(t, l.Close()) })
	return l
}

func TestLogTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	long := bytes.Repeat([]byte("x"), 100_000)
	must(t, os.WriteFile(path, append(append([]byte("one\n"), long...), "\nthree\nfour\n"...), 0o600))
	l := openLog(t, path)
	for n, want := range map[int]string{1: "four\n", 2: "three\nfour\n", 3: string(long) + "\nthree\nfour\n", 4: "", 9: ""} {
		off, err := l.TailOffset(n)
		must(t, err)
		if want == "" && off != 0 {
			t.Errorf("tail %d begins at %d, want the beginning", n, off)
		}
		if want != "" && readAll(t, l, off) != want {
			t.Errorf("tail %d differs", n)
		}
	}
}

func TestLogWaitWakes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	must(t, os.WriteFile(path, []byte("a"), 0o600))
	l := openLog(t, path)
	done := make(chan error)
	go func() { done <- l.Wait(context.Background(), 1) }()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = f.WriteString("b")
	must(t, errors.Join(err, f.Close()))
	must(t, <-done)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- l.Wait(ctx, 2) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("Wait = %v after cancel", err)
	}
}

// numbered returns so many bytes of lines that differ.
func numbered(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		b.WriteString(time.Duration(i).String())
		b.WriteByte('\n')
	}
	return b.Bytes()[:n]
}

func TestCutLogKeepsBothEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	text := numbered(4 << 20)
	must(t, os.WriteFile(path, text, 0o600))
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_APPEND, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, CutLog(fd, path, int64(len(text)), 1<<20))
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	if st.Blocks*512 > 1<<20 || st.Size != int64(len(text)) {
		t.Fatalf("%d bytes on disk, size %d", st.Blocks*512, st.Size)
	}
	got := readAll(t, openLog(t, path), 0)
	head, tail := string(text[:logHead]), string(text[len(text)-1<<19:])
	want := head + "\n[... 3.4 MiB dropped ...]\n" + tail
	if got != want {
		t.Fatalf("read %d bytes, want %d; notice %q", len(got), len(want), got[logHead:logHead+30])
	}
}

func TestTruncatedLogSaysSo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	text := numbered(1 << 20)
	must(t, os.WriteFile(path, text, 0o600))
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_APPEND, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, truncateLog(fd, path, int64(len(text)), nil))
	_, err = unix.Write(fd, []byte("more\n"))
	must(t, err)
	l := openLog(t, path)
	want := string(text[:logHead]) + "\n[... 0.9 MiB dropped ...]\nmore\n"
	if got := readAll(t, l, 0); got != want {
		t.Fatalf("read %q...", got[logHead:])
	}
	buf := make([]byte, 100)
	n, next, err := l.Read(buf, 1<<20) // a follower that had read all of it
	must(t, err)
	if string(buf[:n]) != "\n[... 0.9 MiB dropped ...]\n" || next != logHead {
		t.Fatalf("follower got %q and goes on at %d", buf[:n], next)
	}
}
