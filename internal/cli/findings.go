package cli

import (
	"fmt"

	"github.com/dustin/go-humanize"

	"github.com/dspy-agent/dspy-agent/internal/app"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// jsonFound is one thing that is wrong with a database.
type jsonFound struct {
	Kind  string `json:"kind" doc:"what it is about: file, task, state, payload, environment, result, tombstone, events, pause, index or identity; docs/queue.md says more"`
	Seq   uint64 `json:"seq,omitempty" doc:"number of the task"`
	Last  uint64 `json:"last_seq,omitempty" doc:"it is about some of the tasks from seq to this one"`
	Above bool   `json:"above,omitempty" doc:"it is about any tasks from seq on"`
	ID    string `json:"id,omitempty" doc:"of the task, where that is known"`
	Text  string `json:"text" doc:"a sentence"`
}

func foundJSON(list []app.Finding) []jsonFound {
	out := []jsonFound{}
	for _, f := range list {
		out = append(out, jsonFound{Kind: string(f.Kind), Seq: uint64(f.Seq), Last: uint64(f.Last), Above: f.Above, ID: f.ID, Text: f.Text})
	}
	return out
}

// String names the task.
func (f jsonFound) String() string {
	return app.Finding{Seq: task.Seq(f.Seq), Last: task.Seq(f.Last), Above: f.Above, ID: f.ID, Text: f.Text}.String()
}

// showFound prints what is wrong, a line each. Of what a repair makes anew it says how
// much there is: keys and numbers tell nobody anything, and --json has them.
func showFound(out *screen, list []jsonFound) {
	anew := 0
	for _, f := range list {
		if f.Kind == app.FoundIndex {
			anew++
			continue
		}
		out.printf("%s\n", oneLine(f.String()))
	}
	switch {
	case anew == 0:
	case anew == len(list):
		out.printf("nothing is lost: %s; a repair makes those anew (--json lists them)\n", disagree(anew))
	default:
		out.printf("%s, which a repair makes anew (--json lists them)\n", disagree(anew))
	}
}

func disagree(n int) string {
	if n == 1 {
		return "one entry of an index or a counter disagrees with the records"
	}
	return fmt.Sprintf("%s entries of indexes and counters disagree with the records", humanize.Comma(int64(n)))
}

// sizeText says how large a database is, and what of that holds nothing.
func sizeText(all, free, reserved int64) string {
	text := humanize.IBytes(uint64(all))
	if used := all - reserved; free > 0 && used > 0 {
		text += fmt.Sprintf(", %s of it free (%d%% of what is in use)", humanize.IBytes(uint64(free)), percent(free, used))
	}
	if reserved > 0 {
		text += fmt.Sprintf(", %s of it ready for what comes", humanize.IBytes(uint64(reserved)))
	}
	return text
}
