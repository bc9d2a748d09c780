package api

import (
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

func TestNameOf(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 200)
	for _, c := range []struct {
		spec task.Spec
		want string
	}{
		{task.Spec{}, ""},
		{task.Spec{Builtin: task.BuiltinEcho}, "echo"},
		{task.Spec{Image: "alpine"}, "alpine"},
		{task.Spec{Name: "mine", Argv: []string{"x"}}, "mine"},
		{task.Spec{Argv: []string{"/usr/bin/python3", "train.py", "--lr", "1"}}, "python3 train.py --lr 1"},
		{task.Spec{Argv: []string{"/bin/sh", "-c", "cd x &&\n  make"}}, "cd x && make"},
		{task.Spec{Argv: []string{"python3", "-c", "import sys; sys.exit('3')", ""}}, `python3 -c 'import sys; sys.exit('\''3'\'')' ''`},
		{task.Spec{Argv: []string{long}}, "'" + strings.Repeat("é", nameLength-4) + "..."},
	} {
		if got := nameOf(&c.spec); got != c.want {
			t.Errorf("%+v is called %q, want %q", c.spec, got, c.want)
		}
	}
}
