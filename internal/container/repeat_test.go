package container

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/dockertest"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// repeating gives some of what it has told once more to whoever follows, as an engine does
// that has begun a new file.
type repeating struct{ Engine }

func (r repeating) Logs(ctx context.Context, name string, o docker.LogOptions, take func(docker.Entry) error, idle func() error) error {
	if !o.Follow {
		return r.Engine.Logs(ctx, name, o, take, idle)
	}
	var told []docker.Entry
	return r.Engine.Logs(ctx, name, o, func(e docker.Entry) error {
		e.Text = []byte(strings.Clone(string(e.Text)))
		told = append(told, e)
		if err := take(e); err != nil || len(told) < 20 {
			return err
		}
		for _, again := range told[5:] {
			if err := take(again); err != nil {
				return err
			}
		}
		return errors.New("it goes on after what it repeats")
	}, idle)
}

// What an engine repeats is not in the output twice.
func TestOutputThatRepeats(t *testing.T) {
	t.Parallel()
	p := newPlace(t, dockertest.Shared(t, dockertest.Config{}).Address())
	dockertest.Shared(t, dockertest.Config{}).LoadShell(t)
	p.opts.Init = "" // which would have nobody else bring its output
	p.opts.Engine = repeating{p.opts.Engine}
	d := p.daemon(t)
	began := time.Now()
	tk := d.end(d.run(1, sh("for i in 1 2 3 4 5 6 7 8 9; do echo $i.0; echo $i.1; echo $i.2; sleep 0.2; done")))
	if tk.State() != task.Succeeded {
		t.Fatal(tk.Status())
	}
	var want strings.Builder
	for _, i := range "123456789" {
		for _, j := range "012" {
			want.WriteString(string(i) + "." + string(j) + "\n")
		}
	}
	if got := p.output(t, tk.Ref()); got != want.String() {
		t.Errorf("%q", got)
	}
	if took := time.Since(began); took > outputPatience {
		t.Errorf("it took %s", took)
	}
}
