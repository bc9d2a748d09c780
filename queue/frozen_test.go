package queue

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Owners that were frozen, or that died, in the few lines between a look and the step
// that it was for.

// shared are options for a queue on a file server, with terms for tests.
func shared(dir string) Options {
	return Options{Dir: dir, LockTimeout: 50 * time.Millisecond}.OnMount("nfs4").
		WithTerms(Terms{Beat: 10 * time.Millisecond, Confirm: 50 * time.Millisecond, Watch: 100 * time.Millisecond, Grace: 100 * time.Millisecond})
}

// farAway is an owner on another machine, of a generation.
func farAway(generation int) Owner {
	return Owner{
		Lease: strings.Repeat("0a", 16), Role: RoleDaemon, Host: "login2", Machine: "another", BootID: "another",
		PID: 4711, Generation: generation, Fence: 40,
	}
}

// deadNeighbour is an owner of this host that has ended.
func deadNeighbour(t *testing.T, generation int) Owner {
	t.Helper()
	o, err := thisProcess(RoleDaemon, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	gone := exec.Command("/bin/true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	o.PID, o.Generation = gone.Process.Pid, generation
	return o
}

// nameOwner writes what owner.json, or a claim, is to say.
func nameOwner(t *testing.T, dir, file string, o Owner) {
	t.Helper()
	b, err := json.Marshal(o)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, ".new"), b, 0o600)
	}
	if err == nil {
		err = os.Rename(filepath.Join(dir, ".new"), filepath.Join(dir, file))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func newShared(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	q, err := Open(context.Background(), shared(dir))
	if err == nil {
		err = q.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func openShared(t *testing.T, o Options) *Queue {
	t.Helper()
	q, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() }) // a second time, mostly
	return q
}

func inUse(t *testing.T, dir string) string {
	t.Helper()
	name, err := readCurrent(dir)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// TestClaimantThatDied: who was told to take over, and died before it had, leaves the
// owner as alive as it was. Nobody may follow both of them without being told to.
func TestClaimantThatDied(t *testing.T) {
	t.Parallel()
	dir := newShared(t)
	nameOwner(t, dir, OwnerFile, farAway(1))
	nameOwner(t, dir, claimFile(farAway(1).Lease), deadNeighbour(t, 2))
	_, err := Open(context.Background(), shared(dir))
	if locked, ok := errors.AsType[*LockedError](err); !ok || locked.Owner == nil || locked.Owner.PID != 4711 {
		t.Fatalf("open: %v", err)
	}
	told := shared(dir)
	told.TakeOver = true
	openShared(t, told)
	if name := inUse(t, dir); name == firstGeneration {
		t.Errorf("the database of one that may be alive is in use")
	}
}

// TestSuccessorThatDied: who took over, and died before the copy was in use, leaves a
// database into which a frozen owner may still write. It is not gone on with, on
// whichever order.
func TestSuccessorThatDied(t *testing.T) {
	t.Parallel()
	dir := newShared(t)
	nameOwner(t, dir, OwnerFile, deadNeighbour(t, 2))
	openShared(t, shared(dir))
	if name := inUse(t, dir); name == firstGeneration {
		t.Errorf("the database that the owner before had open is in use")
	}
}

// TestGenerationsAreNotSharedOut: the number of one who took over and has not begun to
// copy is its own, should it go on.
func TestGenerationsAreNotSharedOut(t *testing.T) {
	t.Parallel()
	dir := newShared(t)
	nameOwner(t, dir, OwnerFile, farAway(2))
	o := shared(dir)
	o.TakeOver = true
	openShared(t, o)
	if name := inUse(t, dir); name != generationName(3) {
		t.Errorf("in use is %s, and its number is another one's", name)
	}
}

// TestNoWayBack: an owner that was frozen just before it would have put its database
// in use does not take the place of its successor's when it is thawed.
func TestNoWayBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := openShared(t, shared(dir))
	successor := generationName(2)
	if err := os.WriteFile(filepath.Join(dir, successor), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	nameOwner(t, dir, OwnerFile, farAway(2))
	if err := writeCurrent(dir, successor); err != nil {
		t.Fatal(err)
	}
	if err := q.lease.putInUse(firstGeneration); !errors.Is(err, ErrDeposed) {
		t.Errorf("it is answered: %v", err)
	}
	if name := inUse(t, dir); name != successor {
		t.Errorf("in use is %s", name)
	}
}

// TestWayBackIsUndone: where that was frozen between its look and the rename, its
// successor sees to it.
func TestWayBackIsUndone(t *testing.T) {
	t.Parallel()
	dir := newShared(t)
	nameOwner(t, dir, OwnerFile, farAway(1))
	o := shared(dir)
	o.TakeOver = true
	q := openShared(t, o)
	if name := inUse(t, dir); name != generationName(2) {
		t.Fatalf("in use is %s", name)
	}
	if err := writeCurrent(dir, firstGeneration); err != nil {
		t.Fatal(err)
	}
	if err := q.lease.look(); err != nil {
		t.Fatal(err)
	}
	if name := inUse(t, dir); name != generationName(2) {
		t.Errorf("in use is %s", name)
	}
}

// TestAnnouncingTooLate: one that was followed meanwhile is told so when it would say
// where it can be reached.
func TestAnnouncingTooLate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := openShared(t, shared(dir))
	nameOwner(t, dir, OwnerFile, farAway(2))
	if err := q.Announce("127.0.0.1:1", ""); !errors.Is(err, ErrDeposed) {
		t.Errorf("it is answered: %v", err)
	}
	if o := readOwner(dir); o == nil || o.PID != 4711 {
		t.Errorf("owner.json names %v", o)
	}
}

// TestMadeDatabaseReplacesNone: what was made anew does not take the place of a
// database that somebody else gave the same number.
func TestMadeDatabaseReplacesNone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	made, taken := filepath.Join(dir, "made"), filepath.Join(dir, generationName(2))
	for path, text := range map[string]string{made: "made", taken: "taken"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := giveName(made, taken); !errors.Is(err, os.ErrExist) {
		t.Errorf("it is answered: %v", err)
	}
	if b, err := os.ReadFile(taken); err != nil || string(b) != "taken" {
		t.Errorf("there is %q (%v)", b, err)
	}
	free := filepath.Join(dir, generationName(3))
	for range 2 { // a file server may be asked a second time
		if err := giveName(made, free); err != nil {
			t.Errorf("it is answered: %v", err)
		}
	}
}

// TestGraceBeginsAnew: a former owner that was frozen while it wrote its name takes
// itself for the owner until its successor has put that right, and for as long after
// it as it believes what it saw. The copy waits for that.
func TestGraceBeginsAnew(t *testing.T) {
	t.Parallel()
	dir := newShared(t)
	synctest.Test(t, func(t *testing.T) {
		o := Options{Dir: dir}.OnMount("nfs4").withDefaults()
		q := &Queue{opts: o}
		q.mount, _ = o.mountOf(dir) // it cannot fail
		l, err := q.newLease(2)
		if err == nil {
			err = l.take(nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		q.lease = l
		defer l.release()
		began := time.Now()
		const thawed = 5 * time.Second
		time.AfterFunc(thawed, func() { nameOwner(t, dir, OwnerFile, farAway(1)) })
		if err := q.awaitGrace(context.Background(), nil); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < thawed+o.terms.confirm {
			t.Errorf("the copy would begin after %s, and the former owner believes for %s from %s on", took, o.terms.confirm, thawed)
		}
	})
}
