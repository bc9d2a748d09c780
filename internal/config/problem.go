package config

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// A Problem is one thing that is wrong with the settings that were given.
type Problem struct {
	File string // "" when it is not about the file
	Line int    // in the file, from 1; 0 = it is about the file as a whole
	Key  string // the key, variable or flag; "" when it is about none
	Text string // what is wrong and what to do, in a sentence that names the key
}

// String is the problem with its place before it, as compilers print it.
func (p Problem) String() string {
	switch {
	case p.File == "":
		return p.Text
	case p.Line == 0:
		return p.File + ": " + p.Text
	default:
		return p.File + ":" + strconv.Itoa(p.Line) + ": " + p.Text
	}
}

// maxProblems is how many people want to read. What is wrong behind that is told
// when these are mended.
const maxProblems = 100

// InvalidError is a configuration that cannot be used, with everything that is
// wrong with it. It travels in a task.Error with CodeInvalid.
type InvalidError struct {
	Problems []Problem // in the order of their lines
}

// Error lists the problems, one per line.
func (e *InvalidError) Error() string {
	if len(e.Problems) == 1 {
		return e.Problems[0].String()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d mistakes in the configuration:", len(e.Problems))
	for _, p := range e.Problems {
		b.WriteString("\n  " + p.String())
	}
	return b.String()
}

// Invalid makes the error of some problems, as Load does; nil of none.
func Invalid(problems []Problem) error {
	if len(problems) == 0 {
		return nil
	}
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	e := &InvalidError{Problems: problems}
	return &task.Error{Code: task.CodeInvalid, Message: e.Error(), Err: e}
}
