package queue_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// quick are terms for tests; that of belief is long enough for a slow machine.
var quick = queue.Terms{Beat: 10 * time.Millisecond, Confirm: 50 * time.Millisecond, Watch: 300 * time.Millisecond, Grace: 150 * time.Millisecond}

// eventually waits until a condition holds that no event tells of.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for !holds() {
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("it never happens that %s", what)
		}
	}
}

func readOwnerFile(t *testing.T, dir string) (o queue.Owner, ok bool) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "owner.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return o, false
	}
	if err != nil {
		t.Fatal(err)
	}
	return o, json.Unmarshal(b, &o) == nil
}

func writeOwnerFile(t *testing.T, dir string, o queue.Owner) {
	t.Helper()
	b, err := json.Marshal(o)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, ".new"), b, 0o600)
	}
	if err == nil {
		err = os.Rename(filepath.Join(dir, ".new"), filepath.Join(dir, "owner.json"))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// elsewhere is an owner on another machine.
func elsewhere() queue.Owner {
	return queue.Owner{
		Lease: strings.Repeat("0a", 16), Role: queue.RoleDrain, Host: "login2", Machine: "another", BootID: "another", PID: 4711,
		Generation: 1, Fence: 40, StartedAt: time.Date(2026, 1, 2, 3, 4, 0, 0, time.Local),
	}
}

// TestLeaseIsDescribed: owner.json has what others need, as long as the queue is open.
func TestLeaseIsDescribed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	before := queue.BootTime()
	q := openQueue(t, queue.Options{Dir: dir, Role: queue.RoleCommand, Socket: "/s"})
	o, _ := readOwnerFile(t, dir)
	if o.Role != queue.RoleCommand || o.Machine == "" || o.PIDs == 0 || o.Generation != 1 || o.Fence != q.Fence() || len(o.Lease) != 32 || o.Socket != "/s" {
		t.Errorf("owner.json has %+v", o)
	}
	if err := q.Announce("g:1", "h:2"); err != nil {
		t.Fatal(err)
	}
	if o, _ = readOwnerFile(t, dir); o.GRPC != "g:1" || o.HTTP != "h:2" || o.Fence != q.Fence() {
		t.Errorf("owner.json has %+v", o)
	}
	if err := q.ConfirmLease(); err != nil {
		t.Error(err)
	}
	if until := q.LeaseUntil(); until < before+int64(5*time.Second) || until > queue.BootTime()+int64(5*time.Second) {
		t.Errorf("the lease is said to hold until %d, and it is %d", until, queue.BootTime())
	}
	tk := submit(t, q, spec("a"))
	records, err := q.Records(0, 10)
	if err != nil || len(records) != 1 || records[0].Fence != q.Fence() || records[0].Seq != tk[0].Seq {
		t.Errorf("records %+v (%v)", records, err)
	}
	closeQueue(t, q)
	left, err := filepath.Glob(filepath.Join(dir, "*owner*"))
	if err != nil || len(left) != 0 {
		t.Errorf("after closing there are %v (%v)", left, err)
	}
}

// TestReadingLeavesNoTrace: who only reads writes nothing, and takes no lease.
func TestReadingLeavesNoTrace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	closeQueue(t, openQueue(t, queue.Options{Dir: dir}))
	state := func() (s string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			s += fmt.Sprintln(e.Name(), info.Size(), info.ModTime())
		}
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		return s + info.ModTime().String()
	}
	before := state()
	q := openQueue(t, queue.Options{Dir: dir, ReadOnly: true})
	if q.LeaseUntil() != 0 || q.ConfirmLease() != nil || q.Err() != nil {
		t.Error("a reader has a lease")
	}
	if during := state(); during != before {
		t.Errorf("reading changed\n%s\nto\n%s", before, during)
	}
	closeQueue(t, q)
	if after := state(); after != before {
		t.Errorf("reading changed\n%s\nto\n%s", before, after)
	}
}

// TestOwnerElsewhere: an owner on another host is named, with what to do.
func TestOwnerElsewhere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	closeQueue(t, openQueue(t, queue.Options{Dir: dir}))
	writeOwnerFile(t, dir, elsewhere())
	opts := queue.Options{Dir: dir, LockTimeout: 30 * time.Millisecond}.OnMount("nfs4").WithTerms(quick)
	_, err := queue.Open(context.Background(), opts)
	var locked *queue.LockedError
	if !errors.As(err, &locked) || locked.Owner == nil || locked.Owner.PID != 4711 || task.CodeOf(err) != task.CodeUnavailable {
		t.Fatalf("open: %v", err)
	}
	for _, part := range []string{dir, "pid 4711 (drain) on host login2", "since 2026-01-02 03:04", "--take-over", "work on host login2"} {
		if msg := err.Error(); !strings.Contains(msg, part) {
			t.Errorf("%q lacks %q", msg, part)
		}
	}
	if o, _ := readOwnerFile(t, dir); o.Lease != elsewhere().Lease {
		t.Errorf("owner.json has %+v now", o)
	}
	// Nor is read what it may be writing, whatever lock a reader is granted.
	opts.ReadOnly = true
	_, err = queue.Open(context.Background(), opts)
	if !errors.As(err, &locked) || locked.Owner == nil || locked.Owner.PID != 4711 {
		t.Fatalf("open for reading: %v", err)
	}
	if msg := err.Error(); !strings.Contains(msg, "work on host login2") {
		t.Errorf("it says %q", msg)
	}
	if _, err := queue.Verify(context.Background(), opts, nil); !errors.Is(err, queue.ErrLocked) {
		t.Errorf("verify: %v", err)
	}
}

// TestTakeOver follows an owner that is silent: with a copy, and a higher fence.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"nfs4", "ext4"} {
		dir := t.TempDir()
		q := openQueue(t, queue.Options{Dir: dir})
		submit(t, q, spec("a"))
		closeQueue(t, q)
		writeOwnerFile(t, dir, elsewhere())
		old, err := os.ReadFile(filepath.Join(dir, "queue-000001.db"))
		if err != nil {
			t.Fatal(err)
		}
		q = openQueue(t, queue.Options{Dir: dir, TakeOver: true}.OnMount(kind).WithTerms(quick))
		submit(t, q, spec("b"))
		if _, err := q.Lookup("a"); err != nil || q.Fence() <= elsewhere().Fence {
			t.Errorf("fence %d, and a: %v", q.Fence(), err)
		}
		if o, _ := readOwnerFile(t, dir); o.Generation != 2 || o.Fence != q.Fence() {
			t.Errorf("owner.json has %+v", o)
		}
		now, err := os.ReadFile(filepath.Join(dir, "queue-000001.db"))
		if err != nil || !bytes.Equal(old, now) {
			t.Errorf("the former database has changed (%v)", err)
		}
		closeQueue(t, q)
		q = openQueue(t, queue.Options{Dir: dir})
		if _, err := q.Lookup("b"); err != nil {
			t.Errorf("the next owner does not go on with the new database: %v", err)
		}
		closeQueue(t, q)
	}
}

// TestWatchIsTold: with every beat until the former owner's place is taken, and the time
// that is said to be left is what it takes.
func TestWatchIsTold(t *testing.T) {
	t.Parallel()
	here := func() queue.Owner { // this machine before its last start
		dir := t.TempDir()
		q := openQueue(t, queue.Options{Dir: dir})
		defer closeQueue(t, q)
		o, _ := readOwnerFile(t, dir)
		o.BootID, o.Lease = "another", elsewhere().Lease
		return o
	}
	for name, tc := range map[string]struct {
		former queue.Owner
		lasts  time.Duration
	}{
		"restarted": {here(), quick.Watch},
		"elsewhere": {elsewhere(), quick.Watch + quick.Grace},
	} {
		dir := t.TempDir()
		closeQueue(t, openQueue(t, queue.Options{Dir: dir}))
		writeOwnerFile(t, dir, tc.former)
		var told []time.Duration
		opts := queue.Options{Dir: dir, TakeOver: true, OnWatch: func(o *queue.Owner, left time.Duration) {
			if o == nil || o.PID != tc.former.PID {
				t.Errorf("%s: looking for %v", name, o)
			}
			told = append(told, left)
		}}.OnMount("nfs4").WithTerms(quick)
		closeQueue(t, openQueue(t, opts))
		if len(told) < 5 || told[0] != tc.lasts || told[len(told)-1] > tc.lasts/2 {
			t.Errorf("%s: of %s it was told that there are left %v", name, tc.lasts, told)
		}
	}
}

// TestTakeOverIsAskedFor: an owner that may be alive somewhere else is followed by nobody
// who was not told to, on a disk of our own either, which may be served to others or have
// been moved. That is said at once.
func TestTakeOverIsAskedFor(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]string{"nfs4": "whether it still runs cannot be seen from here", "ext4": "another machine id"} {
		dir := t.TempDir()
		closeQueue(t, openQueue(t, queue.Options{Dir: dir}))
		writeOwnerFile(t, dir, elsewhere())
		var err error
		soon(t, func() { _, err = queue.Open(context.Background(), queue.Options{Dir: dir}.OnMount(kind)) })
		if !errors.Is(err, queue.ErrLocked) {
			t.Fatalf("on %s: %v", kind, err)
		}
		for _, part := range []string{"pid 4711 (drain) on host login2", "--take-over", want} {
			if msg := err.Error(); !strings.Contains(msg, part) {
				t.Errorf("on %s %q lacks %q", kind, msg, part)
			}
		}
	}
}

// TestTakeOverOfTheLiving: a sign of life ends it, and nothing has changed.
func TestTakeOverOfTheLiving(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	closeQueue(t, openQueue(t, queue.Options{Dir: dir}))
	writeOwnerFile(t, dir, elsewhere())
	stop, done := make(chan struct{}), make(chan error)
	go func() {
		for i := 0; ; i++ {
			err := os.WriteFile(filepath.Join(dir, "owner.beat"), fmt.Append(nil, i), 0o600)
			select {
			case <-time.After(5 * time.Millisecond):
			case <-stop:
				done <- err
				return
			}
		}
	}()
	_, err := queue.Open(context.Background(), queue.Options{Dir: dir, TakeOver: true, LockTimeout: 30 * time.Millisecond}.OnMount("nfs4").WithTerms(quick))
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	var locked *queue.LockedError
	if !errors.As(err, &locked) || !locked.Alive {
		t.Errorf("take-over: %v", err)
	}
	if msg := err.Error(); !strings.Contains(msg, "sign of life") || strings.Contains(msg, "--take-over") {
		t.Errorf("it says %q", msg)
	}
	if o, _ := readOwnerFile(t, dir); o.Lease != elsewhere().Lease {
		t.Errorf("owner.json has %+v now", o)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.next")); len(left) > 0 {
		t.Errorf("there are %v", left)
	}
}

// TestDeposed: whose lease is somebody else's does nothing any more, and says whose.
func TestDeposed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q, err := queue.Open(context.Background(), queue.Options{Dir: dir}.OnMount("nfs4").WithTerms(quick))
	if err != nil {
		t.Fatal(err)
	}
	submit(t, q, spec("a"))
	select {
	case <-q.Deposed():
		t.Error("it is deposed at once")
	default:
	}
	writeOwnerFile(t, dir, elsewhere())
	<-q.Deposed()
	_, err = q.Submit(context.Background(), []*task.Spec{spec("b")})
	var deposed *queue.DeposedError
	if !errors.As(err, &deposed) || deposed.By.PID != 4711 || !errors.Is(q.Err(), queue.ErrDeposed) || !errors.Is(q.ConfirmLease(), queue.ErrDeposed) {
		t.Errorf("submit: %v, Err: %v", err, q.Err())
	}
	if _, err := q.Lookup("a"); !errors.Is(err, queue.ErrDeposed) {
		t.Errorf("reading: %v", err)
	}
	if err := q.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if o, _ := readOwnerFile(t, dir); o.Lease != elsewhere().Lease {
		t.Errorf("the new owner was written over: %+v", o)
	}
}

// TestNameIsPutBack: on a server owner.json is what others go by. Who has the queue
// writes it again when somebody removed or spoiled it.
func TestNameIsPutBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := openQueue(t, queue.Options{Dir: dir}.OnMount("nfs4").WithTerms(quick))
	path := filepath.Join(dir, "owner.json")
	before, _ := readOwnerFile(t, dir)
	for what, harm := range map[string]func() error{
		"removed": func() error { return os.Remove(path) },
		"spoiled": func() error { return os.WriteFile(path, []byte(`{"pid": 12`), 0o600) },
		"of the owner before": func() error {
			former := elsewhere()
			former.Generation = -1
			writeOwnerFile(t, dir, former)
			return nil
		},
	} {
		if err := harm(); err != nil {
			t.Fatal(err)
		}
		eventually(t, what+" is put right", func() bool {
			now, ok := readOwnerFile(t, dir)
			return ok && now == before
		})
	}
	submit(t, q, spec("a"))
	eventually(t, "the claims are removed, which is after the name is there", func() bool {
		left, _ := filepath.Glob(filepath.Join(dir, "*.next"))
		return len(left) == 0
	})
}

// TestHeartbeatOnAFullDisk: the sign of life goes on, so that nobody takes a queue for
// abandoned because its disk is full.
func TestHeartbeatOnAFullDisk(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 2)
	dir := filepath.Join(disk, "queue")
	openQueue(t, queue.Options{Dir: dir}.WithTerms(quick))
	f, err := os.Create(filepath.Join(disk, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if cerr := f.Close(); !errors.Is(err, unix.ENOSPC) || cerr != nil {
		t.Fatal(err, cerr)
	}
	for range 3 {
		before, err := os.ReadFile(filepath.Join(dir, "owner.beat"))
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the heart beats", func() bool {
			now, err := os.ReadFile(filepath.Join(dir, "owner.beat"))
			return err == nil && !bytes.Equal(now, before)
		})
	}
}

// TestNameIsAnnounced: who has the queue on a disk of its own is in owner.json again, if
// that was removed or spoiled, once it has something to announce.
func TestNameIsAnnounced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := openQueue(t, queue.Options{Dir: dir})
	path := filepath.Join(dir, "owner.json")
	for i, harm := range []func() error{
		func() error { return os.Remove(path) },
		func() error { return os.WriteFile(path, []byte(`{"pid": 12`), 0o600) },
	} {
		if err := harm(); err != nil {
			t.Fatal(err)
		}
		addr := fmt.Sprint("g:", i)
		if err := q.Announce(addr, ""); err != nil {
			t.Fatal(err)
		}
		if o, ok := readOwnerFile(t, dir); !ok || o.GRPC != addr || o.PID != os.Getpid() {
			t.Errorf("owner.json has %+v", o)
		}
	}
	closeQueue(t, q)
	if left, _ := filepath.Glob(filepath.Join(dir, "*owner*")); len(left) > 0 {
		t.Errorf("after closing there are %v", left)
	}
}

// TestCareFollowsNobody: whoever looks after a queue does not take it over unasked, from
// one who may still write into the database.
func TestCareFollowsNobody(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	closeQueue(t, openQueue(t, queue.Options{Dir: dir}))
	if err := os.WriteFile(filepath.Join(dir, "owner.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	opts := queue.Options{Dir: dir, LockTimeout: 30 * time.Millisecond}.OnMount("nfs4").WithTerms(quick)
	if _, err := queue.Compact(context.Background(), opts, nil); !errors.Is(err, queue.ErrLocked) {
		t.Errorf("compact: %v", err)
	}
	if left := databases(t, dir); len(left) != 1 || left[0] != dbPath(dir) {
		t.Errorf("there are %v", left)
	}
}
