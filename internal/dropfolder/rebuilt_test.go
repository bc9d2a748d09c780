package dropfolder

import (
	"os"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// After a restoration a taken file whose task the queue does not know is not submitted:
// it may have run. One whose task is known is followed, and what comes later is taken.
func TestTakenBeforeARestoration(t *testing.T) {
	inWorld(t, func(w *world) {
		w.drop("lost.json", `{"id":"lost"}`)
		w.drop("anonymous.json", `{"payload":{}}`)
		w.drop("kept.json", `{"id":"kept"}`)
		w.pass(10 * time.Second)
		w.halt()
		w.ledger.with(func(l *ledger) {
			l.tasks, l.rebuilt = map[string]*booked{"kept": l.tasks["kept"]}, true
		})
		must(w, os.WriteFile(w.path("pending", "new.json"), []byte(`{"id":"new"}`), 0o600))
		w.start()
		w.pass(20 * time.Second)
		w.rejected("lost.json", `{"id":"lost"}`, "may have run")
		w.rejected("anonymous.json", `{"payload":{}}`, "may have run")
		all := w.ledger.all()
		if len(all) != 2 || all["kept"].times != 2 || all["new"].times != 1 || w.ledger.rebuilt {
			w.Errorf("there are %v", all)
		}
		w.ledger.end("kept", Outcome{State: task.Succeeded})
		w.pass(5 * time.Second)
		w.done("kept.json")
		must(w, os.Rename(w.path("rejected", "lost.json"), w.path("pending", "lost.json"))) // as its text says
		w.pass(10 * time.Second)
		if w.ledger.all()["lost"].times != 1 {
			w.Error("a file that was put back is not taken")
		}
	})
}
