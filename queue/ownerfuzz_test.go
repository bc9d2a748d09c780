package queue

import (
	"encoding/json"
	"testing"
	"time"
)

// FuzzOwner: whatever owner.json holds, it names a process that there can be, or
// nobody; and what this release writes it reads.
func FuzzOwner(f *testing.F) {
	here, err := thisProcess(RoleDrain, time.Unix(1, 0))
	if err != nil {
		f.Fatal(err)
	}
	whole, err := json.Marshal(here)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte(`{"pid":-1,"host":"h","boot_id":"b"}`))
	f.Add([]byte(`{"pid":7,"start_ticks":18446744073709551615}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		o := parseSeat(b).owner
		if o == nil {
			return
		}
		if o.PID <= 0 {
			t.Fatalf("%q names pid %d", b, o.PID)
		}
		again, err := json.Marshal(o)
		if got := parseSeat(again).owner; err != nil || got == nil || got.PID != o.PID || got.BootID != o.BootID || got.StartTicks != o.StartTicks || got.Host != o.Host {
			t.Fatalf("%q is read as %+v, and written and read again as %+v, %v", b, o, got, err)
		}
		_ = o.String()
	})
}
