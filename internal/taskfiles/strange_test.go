package taskfiles

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A FIFO in place of the output must not block whoever looks for a result.
func TestOutputThatIsNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	must(t, unix.Mkfifo(path, 0o600))
	if res, err := markedLine(path, 1<<20); res != nil || err != nil {
		t.Fatalf("%q, %v", res, err)
	}
	if _, err := resultFile(path, 1); err == nil {
		t.Fatal("a FIFO was read as a result")
	}
}

// What is cut is noted first, and a cut that fails leaves no note.
func TestCutIsNotedFirst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	must(t, f.Truncate(4<<20))
	r, err := os.Open(path)
	must(t, err)
	defer r.Close()
	if err := CutLog(int(r.Fd()), path, 4<<20, 1<<20); err == nil { // it is not open for writing
		t.Fatal("no error")
	}
	if _, err := os.Stat(path + cutsSuffix); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("a note of what was not cut: %v", err)
	}
	must(t, CutLog(int(f.Fd()), path, 4<<20, 1<<20))
	cuts, err := readCuts(path)
	must(t, err)
	if len(cuts) != 1 || cuts[0].From != logHead || cuts[0].To != 4<<20-1<<19 {
		t.Fatalf("cuts %+v", cuts)
	}
}

// What is wrong with the file itself does not pass.
func TestWhichErrorsPass(t *testing.T) {
	var bad resultError
	for err, passes := range map[error]bool{
		unix.EMFILE: true, unix.ENFILE: true, unix.ENOMEM: true, unix.EIO: true, unix.ESTALE: true, unix.EINTR: true, unix.ETIMEDOUT: true,
		unix.EACCES: false, unix.EPERM: false, unix.EISDIR: false,
	} {
		got := unreadable("the result file", err)
		if errors.Is(got, ErrUnread) != passes || errors.As(got, &bad) == passes {
			t.Errorf("%v: %v", err, got)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
