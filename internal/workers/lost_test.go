package workers_test

import (
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/lease"
)

// TestLostGrantComesAgain: the answer of a call was lost; the next one brings it, and what
// was seen does not come twice.
func TestLostGrantComesAgain(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	d := p.daemon(t)
	id := "lost" + strings.Repeat("a", 8)
	p.folder(t, id, 1)
	d.launch(3, "true")
	var lost lease.Grant
	for late := time.Now().Add(time.Minute); len(lost.Tasks) == 0; { // the daemon may be reading
		if time.Now().After(late) {
			t.Fatal("nothing is handed out")
		}
		lost, _ = d.b.Lease(t.Context(), lease.Want{Worker: id, Room: 2, Hold: 4, Wait: time.Second})
	}
	again, err := d.b.Lease(t.Context(), lease.Want{Worker: id, Room: 2, Hold: 4, Wait: time.Second})
	if err != nil || again.Lease != lost.Lease || len(again.Tasks) != 2 || again.Tasks[0].Ref() != lost.Tasks[0].Ref() {
		t.Fatalf("%+v, %v; want %+v once more", again, err, lost)
	}
	next, err := d.b.Lease(t.Context(), lease.Want{Worker: id, Room: 2, Hold: 4, Wait: time.Second, Seen: again.Lease})
	if err != nil || len(next.Tasks) != 1 || next.Lease <= again.Lease {
		t.Fatalf("%+v, %v; want the third task", next, err)
	}
}
