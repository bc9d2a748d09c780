package lease_test

import (
	"os"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/lease"
)

// FuzzCalls: whatever is in the files, what is written behind whole frames by who begins to
// write is read, and nothing is read twice.
func FuzzCalls(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 9})
	f.Add([]byte{255, 255, 255, 255, 0, 0, 0, 0})
	f.Add([]byte{100, 0, 0, 0, 1, 2, 3, 4, 'h', 'a', 'l', 'f'})
	f.Fuzz(func(t *testing.T, content []byte) {
		fo := lease.FolderOf(t.TempDir(), "worker12345678")
		must(t, fo.Make(lease.Card{}))
		must(t, lease.NewOutbox(fo).Ask(lease.Call{ID: 1, Method: "A"}))
		litter(t, fo.Ask(), content)
		in := lease.NewInbox(fo)
		calls, _ := in.Calls() // what follows may be damaged
		if len(calls) == 0 || calls[0].ID != 1 || calls[0].Method != "A" {
			t.Fatalf("%v", calls)
		}
		if again, _ := in.Calls(); len(again) != 0 {
			t.Fatalf("read twice: %v", again)
		}
		out := lease.NewOutbox(fo)
		must(t, out.Ask(lease.Call{ID: 1 << 63, Waiting: []uint64{1}, Method: "B", Body: []byte("b")}))
		calls, err := in.Calls()
		if err != nil || len(calls) != 1 || calls[0].Method != "B" || string(calls[0].Body) != "b" {
			t.Fatalf("behind what was left there: %v, %v", calls, err)
		}
		litter(t, fo.Answer(), content)
		must(t, lease.NewInbox(fo).Reply(lease.Reply{ID: 7, Body: []byte("seven")}))
		replies, err := out.Replies()
		if err != nil || len(replies) == 0 || replies[len(replies)-1].ID != 7 {
			t.Fatalf("behind what was left there: %v, %v", replies, err)
		}
	})
}

// litter adds what somebody has left who did not come to an end.
func litter(t *testing.T, path string, content []byte) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = file.Write(content)
	must(t, err)
	must(t, file.Close())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
