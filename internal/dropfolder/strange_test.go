package dropfolder

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// asRoot skips what only root can arrange.
func asRoot(t *testing.T, what string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip(what + " needs root: sudo go test ./internal/dropfolder -run " + t.Name())
	}
}

// What is no file of ours is never read, and never deleted.
func TestStrangeFilesAreSetAside(t *testing.T) {
	const valid = `{"id":"never"}`
	for name, c := range map[string]struct {
		make   func(w *world, path string) error
		reason string
	}{
		"link": {func(w *world, path string) error {
			w.write("outside", valid)
			return os.Symlink(w.path("outside"), path)
		}, "it is a symbolic link"},
		"dangling": {func(_ *world, path string) error { return os.Symlink("/nowhere", path) }, "it is a symbolic link"},
		"hardlink": {func(w *world, path string) error {
			w.write("outside", valid)
			return os.Link(w.path("outside"), path)
		}, "more than one name"},
		"pipe": {func(_ *world, path string) error { return unix.Mkfifo(path, 0o600) }, "not a regular file"},
		"huge": {func(_ *world, path string) error {
			return os.WriteFile(path, []byte(`{"id":"never","payload":{"a":"`+strings.Repeat("x", DefaultMaxFileBytes)+`"}}`), 0o600)
		}, "at most 10485760 are allowed"},
		"sparse": {func(w *world, path string) error {
			must(w, os.WriteFile(path, nil, 0o600))
			return os.Truncate(path, 1<<40)
		}, "at most 10485760 are allowed"},
		"deep": {func(_ *world, path string) error {
			return os.WriteFile(path, []byte(`{"id":"never","payload":`+strings.Repeat(`{"a":`, 99)+`1`+strings.Repeat(`}`, 100)), 0o600)
		}, "is nested 99 levels deep"},
		"deeper": {func(_ *world, path string) error {
			return os.WriteFile(path, []byte(strings.Repeat(`[`, 1<<20)+strings.Repeat(`]`, 1<<20)), 0o600)
		}, "exceeded max depth"},
		"twice": {func(_ *world, path string) error {
			return os.WriteFile(path, []byte(`{"id":"never","id":"never"}`), 0o600)
		}, `has the key "id" twice`},
		"empty":  {func(_ *world, path string) error { return os.WriteFile(path, nil, 0o600) }, "the file is empty"},
		"binary": {func(_ *world, path string) error { return os.WriteFile(path, []byte("{\"a\":\"\xff\"}"), 0o600) }, "is not UTF-8"},
		"behind": {func(_ *world, path string) error { return os.WriteFile(path, []byte(valid+valid), 0o600) }, "after top-level value"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				path := w.path("pending", "x.json")
				must(w, c.make(w, path))
				before, err := os.Lstat(path)
				must(w, err)
				w.drop("good.json", `{"id":"good"}`)
				w.pass(7 * time.Second)
				if id, _ := w.only(); id != "good" {
					w.Errorf("task %s was made", id)
				}
				w.pass(2 * time.Minute)
				w.only()
				after, err := os.Lstat(w.path("rejected", "x.json"))
				if err != nil || !os.SameFile(before, after) || after.Size() != before.Size() {
					w.Errorf("it was not kept: %v\n%s", err, w.log)
				}
				if text := w.read("rejected", "x.error"); !strings.Contains(text, c.reason) {
					w.Errorf("it was rejected with %q, which lacks %q", text, c.reason)
				}
				w.empty("pending")
			})
		})
	}
}

func (w *world) write(name, content string) {
	w.Helper()
	must(w, os.WriteFile(w.path(name), []byte(content), 0o600))
}

func TestFileOfAnotherUser(t *testing.T) {
	asRoot(t, "making a file of another user")
	inWorld(t, func(w *world) {
		w.drop("x.json", `{"id":"x"}`)
		must(w, os.Chown(w.path("pending", "x.json"), 12345, -1))
		w.pass(30 * time.Second)
		if !w.has("pending", "x.json") {
			w.Error("it was not left to be mended")
		}
		w.pass(time.Minute)
		w.rejected("x.json", `{"id":"x"}`, "it belongs to uid 12345")
		if len(w.ledger.all()) > 0 {
			w.Error("it became a task")
		}
	})
}

// A file that its owner may not read is set aside; so it takes somebody who is not
// root to see it.
func TestFileWithoutReadPermission(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read everything: run as another user, go test ./internal/dropfolder -run " + t.Name())
	}
	inWorld(t, func(w *world) {
		w.drop("x.json", `{"id":"x"}`)
		must(w, os.Chmod(w.path("pending", "x.json"), 0o200))
		w.pass(2 * time.Minute)
		if text := w.read("rejected", "x.error"); !strings.Contains(text, "it cannot be read") {
			w.Errorf("it was rejected with %q", text)
		}
	})
}

// A program may publish a file by a second link, and remove the first.
func TestFilePublishedByLink(t *testing.T) {
	inWorld(t, func(w *world) {
		w.drop(".tmp", `{"id":"x"}`)
		must(w, os.Link(w.path("pending", ".tmp"), w.path("pending", "x.json")))
		w.pass(20 * time.Second)
		if len(w.ledger.all()) > 0 {
			w.Fatal("it was taken with two names")
		}
		must(w, os.Remove(w.path("pending", ".tmp")))
		w.pass(7 * time.Second)
		w.only()
	})
}

// What is none of ours stays where it is, and is said once.
func TestOtherNamesAreLeftAlone(t *testing.T) {
	inWorld(t, func(w *world) {
		for _, name := range []string{".x.json", "x.json.tmp", "x", ".json", "x.JSON"} {
			w.drop(name, `{"id":"x"}`)
		}
		must(w, os.Mkdir(w.path("pending", "folder.json"), 0o700))
		w.pass(3 * time.Minute)
		if n := len(w.names("pending")); n != 6 {
			w.Errorf("pending has %q", w.names("pending"))
		}
		if n := strings.Count(w.log.String(), "are left alone"); n != 1 || len(w.ledger.all()) > 0 {
			w.Errorf("it was said %d times, and there are tasks %v", n, w.ledger.all())
		}
	})
}

// A name is any bytes, as many as a name may have.
func TestNames(t *testing.T) {
	names := []string{
		strings.Repeat("n", 250), strings.Repeat("ü", 125), strings.Repeat("n", 223), strings.Repeat("n", 224),
		"with space", "new\nline", "\xff\xfe", "'quoted'", "a~b", "$(x)", "-rf", "x.json", "*", "\x01",
	}
	inWorld(t, func(w *world) {
		for _, name := range names {
			w.drop(name+".json", `{"task":1}`)
		}
		w.pass(5 * time.Second)
		if n := len(w.ledger.all()); n != len(names) {
			w.Fatalf("%d tasks\n%s", n, w.log)
		}
		w.halt() // what is taken is found again
		w.start()
		w.pass(5 * time.Second)
		for _, name := range names { // each name once more, while the first is running
			w.drop(name+".json", `{"task":2}`)
		}
		w.pass(5 * time.Second)
		for id, b := range w.ledger.all() {
			if string(b.sub.Payload["task"]) == "2" {
				w.ledger.end(id, Outcome{State: 96})
			}
		}
		w.pass(time.Second)
		w.ledger.endAll()
		w.pass(time.Second)
		for _, name := range names {
			if got := w.done(name + ".json"); got["task"] != 2.0 {
				w.Errorf("the outcome of %q is %v", name, got)
			}
		}
		if n := len(w.names("done")); n != 2*len(names) {
			w.Errorf("%d outcomes", n)
		}
		w.empty("pending", "taken", "rejected")
		for _, name := range names {
			w.drop(name+".json", `[`)
		}
		w.pass(2 * time.Minute)
		if n := len(w.names("rejected")); n != 2*len(names) {
			w.Errorf("rejected has %d files\n%s", n, w.log)
		}
		w.empty("pending", "taken")
	})
}

// Whoever exchanges one of the directories, or lets others write to it, stops
// everything until it is mended.
func TestUnsafeFolders(t *testing.T) {
	for name, c := range map[string]struct {
		spoil, mend func(w *world, dir string) error
		reason      string
	}{
		"link": {func(w *world, dir string) error {
			must(w, os.Rename(w.path(dir), w.path("moved")))
			must(w, os.Mkdir(w.path("elsewhere"), 0o700))
			return os.Symlink(w.path("elsewhere"), w.path(dir))
		}, func(w *world, dir string) error {
			w.empty("elsewhere")
			must(w, os.Remove(w.path(dir)))
			return os.Rename(w.path("moved"), w.path(dir))
		}, "is a symbolic link"},
		"file": {func(w *world, dir string) error {
			must(w, os.Rename(w.path(dir), w.path("moved")))
			return os.WriteFile(w.path(dir), nil, 0o600)
		}, func(w *world, dir string) error {
			must(w, os.Remove(w.path(dir)))
			return os.Rename(w.path("moved"), w.path(dir))
		}, "is not a folder"},
		"writable": {func(w *world, dir string) error { return os.Chmod(w.path(dir), 0o770) },
			func(w *world, dir string) error { return os.Chmod(w.path(dir), 0o755) }, "run: chmod go-w "},
	} {
		for _, dir := range []string{"pending", "taken", "done", "rejected", "requests", "."} {
			if dir == "." && name != "writable" {
				continue
			}
			t.Run(name+"/"+dir, func(t *testing.T) {
				inWorld(t, func(w *world) {
					w.drop("a.json", `{"id":"a"}`)
					w.pass(5 * time.Second)
					w.drop("b.json", `{"id":"b"}`)
					must(w, c.spoil(w, dir))
					w.ledger.end("a", Outcome{State: 96})
					w.pass(time.Minute)
					if len(w.ledger.all()) != 1 || w.folder.Busy() {
						w.Errorf("it went on: %v", w.ledger.all())
					}
					if n := strings.Count(w.log.String(), c.reason); n != 1 {
						w.Errorf("it was said %d times:\n%s", n, w.log)
					}
					must(w, c.mend(w, dir))
					w.pass(10 * time.Second)
					if len(w.ledger.all()) != 2 || !w.has("done", "a.json") {
						w.Errorf("tasks %v, done %q\n%s", w.ledger.all(), w.names("done"), w.log)
					}
				})
			})
		}
	}
}

func TestFolderOfAnotherUser(t *testing.T) {
	asRoot(t, "making a folder of another user")
	inWorld(t, func(w *world) {
		must(w, os.Chown(w.path("pending"), 12345, -1))
		w.drop("a.json", `{"id":"a"}`)
		w.pass(20 * time.Second)
		w.logs("belongs to uid 12345")
		if len(w.ledger.all()) > 0 {
			w.Error("a file was taken from it")
		}
	})
}

// A whole folder that is removed is made again.
func TestFolderThatIsRemoved(t *testing.T) {
	inWorld(t, func(w *world) {
		w.drop("a.json", `{"id":"a"}`)
		w.pass(5 * time.Second)
		for _, dir := range []string{"pending", "taken", "done", "rejected", "requests"} {
			must(w, os.RemoveAll(w.path(dir)))
		}
		w.pass(10 * time.Second)
		w.logs("a taken file has disappeared")
		w.ledger.endAll()
		w.drop("b.json", `{"id":"b"}`)
		w.pass(7 * time.Second)
		w.ledger.endAll()
		w.pass(0)
		if names := w.names("done"); len(names) != 1 || names[0] != "b.json" {
			w.Errorf("done has %q", names)
		}
	})
}

// mount mounts a small file system on a directory.
func mount(t *testing.T, dir, options string) {
	t.Helper()
	asRoot(t, "mounting a small file system")
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700,"+options); err != nil {
		t.Skipf("this container may not mount: %v", err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
}

func TestReadOnlyFolder(t *testing.T) {
	dir := t.TempDir()
	mount(t, dir, "size=1m")
	remount := func(flags uintptr) error { return unix.Mount("", dir, "", unix.MS_REMOUNT|flags, "") }
	bubble(t, dir, func(w *world) {
		w.drop("a.json", `{"id":"a"}`)
		w.pass(5 * time.Second)
		w.drop("b.json", `{"id":"b"}`)
		must(w, remount(unix.MS_RDONLY))
		w.ledger.end("a", Outcome{State: 96})
		w.pass(time.Minute)
		if len(w.ledger.all()) != 1 || len(w.names("done")) > 0 {
			w.Errorf("tasks %v, done %q", w.ledger.all(), w.names("done"))
		}
		if n := strings.Count(w.log.String(), "read-only file system"); n > 4 {
			w.Errorf("it was said %d times:\n%s", n, w.log)
		}
		must(w, remount(0))
		w.pass(time.Minute)
		if len(w.ledger.all()) != 2 || !w.has("done", "a.json") {
			w.Errorf("tasks %v, done %q", w.ledger.all(), w.names("done"))
		}
	})
}

// On a full disk nothing is lost: neither what comes, nor outcomes, nor what is
// rejected.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	mount(t, dir, "size=256k")
	bubble(t, dir, func(w *world) {
		for _, name := range []string{"a", "b", "c"} {
			w.drop(name+".json", `{"id":"`+name+`"}`)
		}
		w.pass(5 * time.Second)
		w.drop("bad.json", `[]`)
		w.drop("d.json", `{"id":"d"}`)
		fill(w, filepath.Join(dir, "ballast"))
		w.ledger.endAll()
		w.pass(time.Minute)
		w.empty("done", "rejected")
		if n := strings.Count(w.log.String(), "no space left on device"); n < 1 || n > 4 {
			w.Errorf("it was said %d times:\n%s", n, w.log)
		}
		must(w, os.Remove(filepath.Join(dir, "ballast")))
		w.pass(time.Minute)
		w.ledger.endAll()
		w.pass(time.Second)
		if got := w.names("done"); len(got) != 4 {
			w.Errorf("done has %q\n%s", got, w.log)
		}
		w.rejected("bad.json", `[]`, "is not a JSON object")
		w.empty("pending", "taken")
	})
}

// fill takes all the space that is left.
func fill(t testing.TB, path string) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	if !full(err) {
		t.Fatal(err)
	}
}

// What a writer puts in the place of a file while that is taken is what counts.
func TestFileReplacedWhileItIsTaken(t *testing.T) {
	for name, later := range map[string]string{"whole": `{"id":"later"}`, "half": `{"id":"la`} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.halt()
				f, err := New(w.opts)
				must(w, err)
				defer f.close()
				w.drop("x.json", `{"id":"first"}`)
				now := time.Now()
				f.round(w.Context())
				l := f.pending.looks["x.json"]
				file, content, err := f.read(f.layout.pending, "x.json", l)
				must(w, err)
				defer file.Close()
				w.drop(".new", later)
				must(w, os.Rename(w.path("pending", ".new"), w.path("pending", "x.json")))
				b := &batch{}
				must(w, f.takeFile(candidate{"x.json", l, file, content}, now, b))
				if len(b.subs) > 0 || len(f.taken.unsettled) != 1 {
					w.Fatalf("what was replaced was submitted: %+v", b.subs)
				}
				w.start() // and a crash
				w.pass(3 * time.Second)
				if name == "half" {
					names := w.names("taken")
					out, err := os.OpenFile(w.path("taken", names[0]), os.O_APPEND|os.O_WRONLY, 0)
					must(w, err)
					_, err = out.WriteString(`ter"}`)
					must(w, err)
					must(w, out.Close())
					w.pass(5 * time.Second)
				}
				if id, _ := w.only(); id != "later" {
					w.Errorf("the task is %s", id)
				}
				w.empty("rejected", "pending")
			})
		})
	}
}

// Writing into a file that was read, before it is taken, is seen as well.
func TestFileWrittenToWhileItIsTaken(t *testing.T) {
	inWorld(t, func(w *world) {
		w.halt()
		f, err := New(w.opts)
		must(w, err)
		defer f.close()
		w.drop("x.json", `{"id":"first"}`)
		f.round(w.Context())
		l := f.pending.looks["x.json"]
		file, content, err := f.read(f.layout.pending, "x.json", l)
		must(w, err)
		defer file.Close()
		w.drop("x.json", `{"id":"second"}`)
		b := &batch{}
		must(w, f.takeFile(candidate{"x.json", l, file, content}, time.Now(), b))
		if len(b.subs) > 0 {
			w.Fatalf("what was overwritten was submitted: %+v", b.subs)
		}
	})
}

// A file that cannot be moved holds up nobody else.
func TestFileThatCannotBeMoved(t *testing.T) {
	asRoot(t, "making a file immutable")
	inWorld(t, func(w *world) {
		w.drop("a.json", `{"id":"stuck"}`)
		if err := setFlags(w.path("pending", "a.json"), fsImmutable); err != nil {
			w.Skipf("this file system has no immutable files: %v", err)
		}
		defer func() { _ = setFlags(w.path("pending", "a.json"), 0) }() // else it could not be removed
		w.drop("b.json", `{"id":"good"}`)
		w.pass(2 * time.Minute)
		if id, _ := w.only(); id != "good" {
			w.Errorf("the task is %s", id)
		}
		if n := strings.Count(w.log.String(), "cannot be dealt with"); n != 1 {
			w.Errorf("it was said %d times:\n%s", n, w.log)
		}
		must(w, setFlags(w.path("pending", "a.json"), 0))
		w.pass(time.Minute)
		if len(w.ledger.all()) != 2 {
			w.Errorf("tasks %v", w.ledger.all())
		}
	})
}

const fsImmutable = 0x10 // FS_IMMUTABLE_FL of linux/fs.h

func setFlags(path string, flags int) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags)
}
