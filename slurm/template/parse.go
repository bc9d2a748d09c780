package template

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"syscall"
	texttemplate "text/template"

	"github.com/dspy-agent/dspy-agent/internal/directive"
)

const nonBlocking = syscall.O_NONBLOCK

// A Template is a file of the folder.
type Template struct {
	Name string
	Path string

	script *script                // of a script as it is
	source *texttemplate.Template // of a Go template
}

// script is a batch script, taken apart.
type script struct {
	text     string
	options  []placed
	behind   []int    // lines with directives that stand where sbatch does not read them
	mentions []string // names of variables
}

// placed is an option, and the line in which it stands.
type placed struct {
	directive.Option
	line int
}

// Parse reads a template.
func Parse(name, path, text string) (*Template, error) {
	t := &Template{Name: name, Path: path}
	var err error
	if strings.HasSuffix(path, goEnding) {
		t.source, err = texttemplate.New(name).Option("missingkey=error").Parse(text)
	} else {
		t.script, err = parseScript(text)
	}
	return t, err
}

// marker begins the lines that sbatch reads.
const marker = "#SBATCH"

// mentioned finds the names of variables, in whatever way they are used.
var mentioned = regexp.MustCompile(`\$\{?[#!]?([A-Za-z_][A-Za-z0-9_]*)`)

// parseScript takes a script apart. What sbatch does not take is refused here.
func parseScript(text string) (*script, error) {
	switch {
	case !strings.HasPrefix(text, "#!/"):
		return nil, errors.New("its first line has to name who reads it, as #!/bin/bash does")
	case strings.Contains(text, "\r\n"):
		return nil, errors.New("its lines end as those of Windows do, which sbatch refuses: dos2unix mends it")
	case strings.ContainsRune(text, 0):
		return nil, errors.New("it is no text")
	}
	s := &script{text: text}
	head := true
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSuffix(line, "\n")
		rest, marked := strings.CutPrefix(line, marker)
		switch {
		case !marked:
			head = head && (strings.TrimSpace(line) == "" || line[0] == '#')
			continue
		case !head:
			s.behind = append(s.behind, n)
			continue
		}
		options, err := directive.Parse(rest)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		for _, o := range options {
			s.options = append(s.options, placed{o, n})
		}
	}
	seen := map[string]bool{}
	for _, m := range mentioned.FindAllStringSubmatch(text, -1) {
		if !seen[m[1]] {
			seen[m[1]] = true
			s.mentions = append(s.mentions, m[1])
		}
	}
	return s, nil
}

// interpreter is who reads the script: a program and at most one argument, as the kernel
// takes them.
func (s *script) interpreter() []string {
	first, _, _ := strings.Cut(s.text[2:], "\n")
	program, argument, _ := strings.Cut(strings.TrimSpace(first), " ")
	if argument = strings.TrimSpace(argument); argument != "" {
		return []string{program, argument}
	}
	return []string{program}
}
