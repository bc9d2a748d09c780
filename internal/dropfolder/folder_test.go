package dropfolder

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// One file, from pending/ to done/.
func TestFileBecomesTaskAndOutcome(t *testing.T) {
	inWorld(t, func(w *world) {
		w.drop("train.json", `{"id":"t1","class":"cpu_long","priority":3,"payload":{"command":"true","lr":0.10},"note":"<mine>","status":"x"}`)
		w.pass(3 * time.Second)
		id, got := w.only()
		if id != "t1" || got.sub.Class != "cpu_long" || got.sub.Priority != 3 || string(got.sub.Payload["lr"]) != "0.10" {
			w.Errorf("task %s is %+v", id, got.sub)
		}
		w.empty("pending", "done", "rejected")
		if names := w.names("taken"); len(names) != 1 || names[0] != got.sub.Ticket+"~train.json" {
			w.Errorf("taken has %q", names)
		}
		if w.folder.Busy() {
			w.Error("it is busy while it waits for a task")
		}
		w.ledger.end("t1", Outcome{State: task.Failed, Result: []byte(`{"exit_code":2}`), Error: "it failed", Duration: 1500 * time.Millisecond})
		w.pass(0)
		want := map[string]any{
			"id": "t1", "class": "cpu_long", "priority": 3.0, "note": "<mine>", "payload": map[string]any{"command": "true", "lr": 0.1},
			"status": "failed", "result": map[string]any{"exit_code": 2.0}, "error": "it failed",
			"completed_at": "2026-03-04T05:06:07.089Z", "duration_ms": 1500.0,
		}
		if got := w.done("train.json"); !reflect.DeepEqual(got, want) {
			w.Errorf("the outcome is %v", got)
		}
		if text := w.read("done", "train.json"); !strings.Contains(text, "<mine>") || !strings.Contains(text, "0.10") {
			w.Errorf("the outcome is written as %s", text)
		}
		w.empty("taken", "pending")
	})
}

func TestTicketIsTheIDOfWhatNamesNone(t *testing.T) {
	inWorld(t, func(w *world) {
		w.drop("a.json", `{"task":"data"}`)
		w.pass(3 * time.Second)
		id, got := w.only()
		if id != got.sub.Ticket || string(got.sub.Payload["task"]) != `"data"` {
			w.Errorf("task %s is %+v", id, got.sub)
		}
		w.ledger.end(id, Outcome{State: task.Succeeded, SlurmJob: "77"})
		w.pass(0)
		if got := w.done("a.json"); got["id"] != id || got["task"] != "data" || got["status"] != "completed" || got["result"] != nil || got["error"] != "" || got["slurm_job"] != "77" {
			w.Errorf("the outcome is %v", got)
		}
	})
}

func TestNullIsNoID(t *testing.T) {
	inWorld(t, func(w *world) {
		w.drop("a.json", `{"id":null,"payload":{}}`)
		w.pass(3 * time.Second)
		id, _ := w.only()
		w.ledger.end(id, Outcome{State: task.Succeeded})
		w.pass(0)
		if got := w.done("a.json")["id"]; got != id {
			w.Errorf("the outcome has the id %v, want %s", got, id)
		}
	})
}

// A file is not taken while it is being written, however slowly.
func TestHalfWrittenFileIsWaitedFor(t *testing.T) {
	inWorld(t, func(w *world) {
		text := `{"id":"slow","payload":{"command":"true"}}`
		f, err := os.Create(w.path("pending", "slow.json"))
		must(w, err)
		defer f.Close()
		for i := range len(text) - 1 {
			_, err := f.WriteString(text[i : i+1])
			must(w, err)
			w.pass(20 * time.Second)
			if !w.has("pending", "slow.json") {
				w.Fatalf("it was taken as %q", text[:i+1])
			}
		}
		_, err = f.WriteString(text[len(text)-1:])
		must(w, err)
		w.pass(7 * time.Second)
		w.only()
		w.empty("pending", "rejected")
	})
}

// What stays half-written is set aside, with what is wrong, and goes once it is
// mended and moved back.
func TestFileThatNeverBecomesWhole(t *testing.T) {
	inWorld(t, func(w *world) {
		w.drop("a.json", `{"id":"a",`)
		w.pass(30 * time.Second)
		w.drop("good.json", `{"id":"good"}`)
		w.pass(25 * time.Second)
		if !w.has("pending", "a.json") {
			w.Fatal("there was no patience")
		}
		if w.folder.Busy() {
			w.Error("it is busy while it waits for a writer")
		}
		w.only() // and the good one did not wait for it
		w.pass(20 * time.Second)
		w.rejected("a.json", `{"id":"a",`, "unexpected end of JSON input (line 1, column 10)")
		w.rejected("a.json", `{"id":"a",`, "mv '"+w.path("rejected", "a.json")+"' '"+w.path("pending", "a.json")+"'")

		w.drop("a.json", `{"id":"a","class":"quick"}`) // the name is in use there
		w.pass(7 * time.Second)
		w.rejected("a.json", `{"id":"a",`, "unexpected end")
		names := w.names("rejected")
		if len(names) != 4 || !strings.HasPrefix(names[3], "a~") {
			w.Fatalf("rejected has %q", names)
		}
		w.rejected(names[3], `{"id":"a","class":"quick"}`, `unknown class "quick"`)

		must(w, os.Rename(w.path("rejected", "a.json"), w.path("pending", "a.json")))
		must(w, os.WriteFile(w.path("pending", "a.json"), []byte(`{"id":"a"}`), 0o600))
		w.pass(7 * time.Second)
		if len(w.ledger.all()) != 2 {
			w.Errorf("tasks %v", w.ledger.all())
		}
	})
}

// What is refused for good is rejected at once; what is refused for now is not.
func TestRefusals(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ledger.with(func(l *ledger) {
			l.refuse = func(s Submission) error {
				if s.ID == "odd" {
					return task.Errorf(task.CodeInternal, "who knows")
				}
				return nil
			}
		})
		w.drop("1.json", `{"id":"x","payload":{"n":1}}`)
		w.drop("2.json", `{"id":"x","payload":{"n":2}}`)
		w.drop("3.json", `{"id":"no spaces"}`)
		w.drop("4.json", `{"prioritty":1,"id":"y"}`)
		w.drop("5.json", `[1]`)
		w.drop("6.json", `{"id":"odd"}`)
		w.drop("7.json", `{"id":"x","payload":{"n":1}}`)
		w.pass(5 * time.Second)
		w.rejected("2.json", `{"id":"x","payload":{"n":2}}`, "task x is another one")
		w.rejected("3.json", `{"id":"no spaces"}`, "' ' is not allowed")
		w.rejected("4.json", `{"prioritty":1,"id":"y"}`, `did you mean "priority"?`)
		w.rejected("5.json", `[1]`, "is not a JSON object")
		if names := w.names("taken"); len(names) != 3 {
			w.Errorf("taken has %q", names)
		}
		w.ledger.end("x", Outcome{State: task.Succeeded})
		w.ledger.with(func(l *ledger) { l.refuse = nil })
		w.pass(time.Minute)
		if len(w.ledger.all()) != 2 || !w.has("done", "1.json") || !w.has("done", "7.json") {
			w.Errorf("tasks %v, done %q", w.ledger.all(), w.names("done"))
		}
	})
}

// While the queue takes nothing, what comes stays where it is and is not lost.
func TestQueueThatTakesNothing(t *testing.T) {
	for name, set := range map[string]func(*ledger, error){
		"all": func(l *ledger, err error) { l.submitErr = err },
		"each": func(l *ledger, err error) {
			l.refuse = func(Submission) error { return err }
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.ledger.with(func(l *ledger) { set(l, task.Errorf(task.CodeExhausted, "the queue is full")) })
				w.drop("a.json", `{"id":"a"}`)
				w.pass(10 * time.Second)
				w.drop("b.json", `{"id":"b"}`)
				w.pass(time.Minute)
				if w.has("pending", "a.json") || !w.has("pending", "b.json") {
					w.Error("not one and only one file was taken")
				}
				if n := strings.Count(w.log.String(), "the queue is full"); n != 1 {
					w.Errorf("it was logged %d times", n)
				}
				if w.folder.Busy() {
					w.Error("it is busy while nothing can be done")
				}
				w.ledger.with(func(l *ledger) { set(l, nil) })
				w.pass(time.Minute)
				if len(w.ledger.all()) != 2 {
					w.Errorf("tasks %v", w.ledger.all())
				}
			})
		})
	}
}

// The record under a name is that of the latest file of the name.
func TestNameUsedAgain(t *testing.T) {
	inWorld(t, func(w *world) {
		ids := []string{"first", "second", "third"}
		for _, id := range ids {
			w.drop("x.json", `{"id":"`+id+`"}`)
			w.pass(5 * time.Second)
		}
		tickets := map[string]string{}
		for id, b := range w.ledger.all() {
			tickets[id] = b.sub.Ticket
		}
		end := func(id string) {
			w.ledger.end(id, Outcome{State: task.Succeeded})
			w.pass(0)
		}
		end("second")
		if got := w.done("x.json")["id"]; got != "second" {
			w.Errorf("done/x.json is of %s", got)
		}
		end("first")
		if got := w.done("x.json")["id"]; got != "second" {
			w.Errorf("done/x.json is of %s after an earlier one", got)
		}
		if got := w.done("x~" + tickets["first"] + ".json")["id"]; got != "first" {
			w.Errorf("the outcome of the first is of %s", got)
		}
		end("third")
		if got := w.done("x.json")["id"]; got != "third" {
			w.Errorf("done/x.json is of %s at last", got)
		}
		w.empty("taken")
	})
}

func TestOutcomesOutliveTheEventLog(t *testing.T) {
	inWorld(t, func(w *world) {
		w.drop("a.json", `{"id":"a"}`)
		w.drop("b.json", `{"id":"b"}`)
		w.pass(5 * time.Second)
		w.ledger.with(func(l *ledger) {
			l.tasks["a"].outcome.State = task.Succeeded
			l.removed += uint64(len(l.records)) + 5
			l.records = nil
			l.record(task.Record{ID: "c", To: task.Pending})
		})
		w.pass(time.Second)
		if !w.has("done", "a.json") || w.has("done", "b.json") {
			w.Errorf("done has %q", w.names("done"))
		}
	})
}

// A Folder that begins where another ended goes on with what is taken.
func TestRestart(t *testing.T) {
	inWorld(t, func(w *world) {
		w.drop("a.json", `{"task":1}`)
		w.drop("b.json", `{"id":"b"}`)
		w.drop("c.json", `{"id":"c"}`)
		w.pass(5 * time.Second)
		w.halt()
		var ids []string
		for id := range w.ledger.all() {
			ids = append(ids, id)
			if id != "b" {
				w.ledger.end(id, Outcome{State: task.Succeeded})
			}
		}
		// The configuration makes another task of the same file now.
		w.ledger.with(func(l *ledger) { l.tasks["c"].content = "something else" })
		must(w, os.WriteFile(w.path("taken", "notes.txt"), nil, 0o600))
		w.start()
		w.pass(5 * time.Second)
		if len(ids) != 3 || len(w.ledger.all()) != 3 {
			w.Errorf("tasks %v, before %v", w.ledger.all(), ids)
		}
		if !w.has("done", "a.json") || !w.has("done", "c.json") || w.has("done", "b.json") {
			w.Errorf("done has %q", w.names("done"))
		}
		w.empty("rejected")
		w.ledger.endAll()
		w.pass(time.Second)
		if names := w.names("taken"); len(names) != 1 || names[0] != "notes.txt" {
			w.Errorf("taken has %q", names)
		}
	})
}
