package api

import (
	"cmp"
	"path/filepath"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/shellword"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// nameLength bounds the name that a task gets from its command.
const nameLength = 80

// nameOf is what a listing calls a task: the name that it was given, else the beginning of
// its command or what is run in its place, so that a person recognises it. HTTP and the drop folder have no names. It is
// not stored: the same submission stays the same.
func nameOf(s *task.Spec) string {
	if s.Name != "" || len(s.Argv) == 0 {
		return cmp.Or(s.Name, s.Builtin, s.Image)
	}
	words := append([]string{filepath.Base(s.Argv[0])}, s.Argv[1:]...)
	if len(words) == 3 && words[0] == "sh" && words[1] == "-c" {
		words = words[2:] // a shell line says more than the shell
	} else {
		for i, w := range words {
			words[i] = shellword.Quote(w)
		}
	}
	name := []rune(strings.Join(strings.Fields(strings.Join(words, " ")), " "))
	if len(name) > nameLength {
		name = append(name[:nameLength-3], []rune("...")...)
	}
	return string(name)
}
