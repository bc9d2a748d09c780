package dropfolder

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fate is what has to become of a file.
type fate int

const (
	becomesTask fate = iota
	isRejected
	isLeft
)

// kinds are the files that programs and people put into a folder.
var kinds = []struct {
	name string
	fate fate
	make func(w *world, path, id string, rng *rand.Rand) (later func() error, err error)
}{
	{"good", becomesTask, func(_ *world, path, id string, _ *rand.Rand) (func() error, error) {
		return nil, os.WriteFile(path, []byte(content(id)), 0o600)
	}},
	{"moved", becomesTask, func(_ *world, path, id string, _ *rand.Rand) (func() error, error) {
		if err := os.WriteFile(path+".tmp", []byte(content(id)), 0o600); err != nil {
			return nil, err
		}
		return nil, os.Rename(path+".tmp", path)
	}},
	{"completed", becomesTask, func(_ *world, path, id string, rng *rand.Rand) (func() error, error) {
		text := content(id)
		cut := rng.IntN(len(text))
		return func() error { return appendTo(path, text[cut:]) }, os.WriteFile(path, []byte(text[:cut]), 0o600)
	}},
	{"replaced", becomesTask, func(_ *world, path, id string, _ *rand.Rand) (func() error, error) {
		later := func() error {
			if err := os.WriteFile(path+".tmp", []byte(content(id)), 0o600); err != nil {
				return err
			}
			return os.Rename(path+".tmp", path)
		}
		return later, os.WriteFile(path, []byte(`{"broken":`), 0o600)
	}},
	{"broken", isRejected, func(_ *world, path, _ string, rng *rand.Rand) (func() error, error) {
		texts := []string{"", "{", `{"id":"x"`, "garbage", `{"a":1}{"b":2}`, "\x00\x00"}
		return nil, os.WriteFile(path, []byte(texts[rng.IntN(len(texts))]), 0o600)
	}},
	{"wrong", isRejected, func(_ *world, path, _ string, rng *rand.Rand) (func() error, error) {
		texts := []string{"[]", "7", `{"id":"a b"}`, `{"class":"quick"}`, `{"id":"x","payload":7}`, `{"a":1,"a":2}`}
		return nil, os.WriteFile(path, []byte(texts[rng.IntN(len(texts))]), 0o600)
	}},
	{"deep", isRejected, func(_ *world, path, _ string, _ *rand.Rand) (func() error, error) {
		return nil, os.WriteFile(path, []byte(strings.Repeat(`{"a":`, 20_000)+"1"+strings.Repeat("}", 20_000)), 0o600)
	}},
	{"symlink", isRejected, func(w *world, path, _ string, _ *rand.Rand) (func() error, error) {
		return nil, os.Symlink(w.path("outside"), path)
	}},
	{"hardlink", isRejected, func(w *world, path, _ string, _ *rand.Rand) (func() error, error) {
		return nil, os.Link(w.path("outside"), path)
	}},
	{"pipe", isRejected, func(_ *world, path, _ string, _ *rand.Rand) (func() error, error) {
		return nil, unix.Mkfifo(path, 0o600)
	}},
	{"other user", isRejected, func(_ *world, path, id string, _ *rand.Rand) (func() error, error) {
		if os.Geteuid() != 0 {
			return nil, os.WriteFile(path, nil, 0o600) // only root can give files away
		}
		if err := os.WriteFile(path+".tmp", []byte(content(id)), 0o600); err != nil {
			return nil, err
		}
		if err := os.Chown(path+".tmp", 12345, -1); err != nil {
			return nil, err
		}
		return nil, os.Rename(path+".tmp", path)
	}},
	{"folder", isLeft, func(_ *world, path, _ string, _ *rand.Rand) (func() error, error) {
		return nil, os.Mkdir(path, 0o700)
	}},
}

func content(id string) string { return `{"id":"` + id + `","payload":{"n":"` + id + `"},"mine":true}` }

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(text); err != nil {
		return err
	}
	return f.Close()
}

// Ten thousand files of all kinds, while the Folder runs and is now and then begun
// anew: each valid one is a task once and has its outcome, the others are set aside
// or left, and nothing is gone.
func TestTenThousandFiles(t *testing.T) {
	files := 10_000
	if testing.Short() {
		files = 1000
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	bubble(t, inMemory(t), func(w *world) {
		w.write("outside", content("outside"))
		fates, made := make([]fate, files), make([]string, files)
		var later []func() error
		for i := range files {
			kind := kinds[0]
			if rng.IntN(2) == 0 {
				kind = kinds[rng.IntN(len(kinds))]
			}
			fates[i], made[i] = kind.fate, kind.name
			rest, err := kind.make(w, w.path("pending", name(i)+".json"), name(i), rng)
			if err != nil {
				w.Fatalf("make the %s file %d: %v", kind.name, i, err)
			}
			if rest != nil {
				later = append(later, rest)
			}
			if rng.IntN(files/20) == 0 {
				w.pass(time.Duration(rng.IntN(3000)) * time.Millisecond)
				w.finishSome(rng, &later)
			}
			if rng.IntN(files/5) == 0 {
				w.halt()
				w.start()
			}
		}
		for len(later) > 0 {
			w.finishSome(rng, &later)
			w.pass(time.Second)
		}
		w.pass(3 * time.Minute)
		w.ledger.endAll()
		w.pass(time.Minute)
		w.checkFates(fates, made)
		if most := maxOf(w.ledger.batches); most > maxBatch {
			w.Errorf("%d files were submitted in one commit", most)
		}
	})
}

func name(i int) string { return fmt.Sprintf("f%05d", i) }

func (w *world) finishSome(rng *rand.Rand, later *[]func() error) {
	n := rng.IntN(len(*later) + 1)
	for _, f := range (*later)[:n] {
		must(w, f())
	}
	*later = (*later)[n:]
}

func (w *world) checkFates(fates []fate, made []string) {
	w.Helper()
	all := w.ledger.all()
	for i, f := range fates {
		_, isTask := all[name(i)]
		done, rejected, left := w.has("done", name(i)+".json"), w.has("rejected", name(i)+".json"), w.has("pending", name(i)+".json")
		explained := w.has("rejected", name(i)+".error")
		if isTask != (f == becomesTask) || done != (f == becomesTask) || rejected != (f == isRejected) || explained != rejected || left != (f == isLeft) {
			w.Errorf("file %d (%s): task %v, done %v, rejected %v (explained %v), left %v", i, made[i], isTask, done, rejected, explained, left)
		}
		delete(all, name(i))
	}
	if len(all) > 0 {
		w.Errorf("%d more tasks: %v", len(all), all)
	}
	for _, n := range w.names("taken") {
		w.Errorf("taken has %s", n)
	}
	for _, dir := range []string{"done", "rejected"} {
		for _, n := range w.names(dir) {
			if strings.HasPrefix(n, ".") {
				w.Errorf("%s has %s", dir, n)
			}
		}
	}
}

func maxOf(list []int) (most int) {
	for _, n := range list {
		most = max(most, n)
	}
	return most
}

// Thousands of files that will never be whole do not hold up one that is.
func TestBadFilesDoNotStopGoodOnes(t *testing.T) {
	inWorld(t, func(w *world) {
		for i := range 3000 {
			w.drop(name(i)+".json", `{`)
		}
		w.pass(10 * time.Second)
		w.drop("zz.json", `{"id":"good"}`)
		w.pass(7 * time.Second)
		w.only()
	})
}

// The oldest goes first, whatever it is called.
func TestOldestFirst(t *testing.T) {
	inWorld(t, func(w *world) {
		w.halt()
		var want []string
		for i := range 600 {
			id := fmt.Sprintf("t%03d", 599-i)
			w.drop(id+".json", `{"id":"`+id+`"}`)
			at := time.Unix(1_700_000_000+int64(i), 0)
			must(w, os.Chtimes(w.path("pending", id+".json"), at, at))
			want = append(want, id)
		}
		w.start()
		w.pass(5 * time.Second)
		records, err := w.ledger.Records(1, 1000)
		must(w, err)
		for i, r := range records {
			if r.ID != want[i] {
				w.Fatalf("task %d is %s, want %s", i, r.ID, want[i])
			}
		}
		if len(records) != len(want) || len(w.ledger.batches) < 3 {
			w.Errorf("%d tasks in batches of %v", len(records), w.ledger.batches)
		}
	})
}
