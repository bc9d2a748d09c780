package process

import (
	"os"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

func TestTrue(t *testing.T) {
	p := newPlace(t)
	d := p.daemon(t, p.options("q"))
	tk := assigned(t, 1, argv("true"))
	d.launch(tk)
	c := d.end(tk.Ref())
	if c.Event.Kind != task.EventExited || c.Event.Outcome.ExitCode != 0 || !c.Event.Unprompted {
		t.Fatalf("end %+v", c.Event)
	}
	if _, err := os.Stat(d.Layout().LogPath(tk.Ref())); err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", c.Event)
}
