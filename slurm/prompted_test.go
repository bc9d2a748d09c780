package slurm

import (
	"testing"
	"time"
)

// TestPrompted: an end is the one that was asked for if it came after that, by clocks that differ
// a little, and if the job was told.
func TestPrompted(t *testing.T) {
	t.Parallel()
	asked := time.Unix(1_000_000, 0)
	for name, c := range map[string]struct {
		ended time.Time
		code  int
		term  bool
		want  bool
	}{
		"killed after":                         {ended: asked.Add(time.Second), code: 143, want: true},
		"killed after, by a clock behind ours": {ended: asked.Add(-time.Second), code: 137, want: true},
		"told, and ended in its own way":       {ended: asked.Add(time.Second), code: 3, term: true, want: true},
		"killed long before":                   {ended: asked.Add(-time.Minute), code: 139},
		"ended by itself":                      {ended: asked.Add(time.Second), code: 0},
	} {
		j := &job{signal: signal{At: asked}, record: record{Exited: true, Ended: c.ended, Code: c.code}}
		if c.term {
			j.record.Term = c.ended
		}
		if got := j.prompted(); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	if (&job{record: record{Exited: true, Ended: asked, Code: 143}}).prompted() {
		t.Error("nobody had asked for it")
	}
}
