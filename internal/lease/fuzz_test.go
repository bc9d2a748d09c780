package lease_test

import (
	"os"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/lease"
)

// FuzzCalls: whatever is in the file, what is written behind whole frames is read, and
// nothing is read twice.
func FuzzCalls(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 9})
	f.Add([]byte{255, 255, 255, 255, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, content []byte) {
		fo := lease.FolderOf(t.TempDir(), "worker12345678")
		if err := fo.Make(lease.Card{}); err != nil {
			t.Fatal(err)
		}
		if err := fo.AskFor(lease.Call{ID: 1, Method: "A"}); err != nil {
			t.Fatal(err)
		}
		file, err := os.OpenFile(fo.Ask(), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.Write(content); err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		in := lease.Inbox{Ask: fo.Ask(), Answer: fo.Answer()}
		calls, _ := in.Calls() // what follows may be damaged
		if len(calls) == 0 || calls[0].ID != 1 || calls[0].Method != "A" {
			t.Fatalf("%v", calls)
		}
		if again, _ := in.Calls(); len(again) != 0 {
			t.Fatalf("read twice: %v", again)
		}
	})
}
