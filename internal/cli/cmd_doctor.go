package cli

import (
	"cmp"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/doctor"
)

const cmdDoctor = "doctor"

var findingColours = map[doctor.Status]string{doctor.OK: green, doctor.Note: cyan, doctor.Warning: yellow, doctor.Problem: red}

func (s *session) doctorCommand() *cli.Command {
	return s.command(cli.Command{
		Name: cmdDoctor, Usage: "look for what could stand in the way, and say how to mend it", Category: categoryDaemon,
		Description: "Ends with 1 if there is a problem; warnings and notes do not count. What does not answer within\n" +
			doctor.Limit.String() + ", such as a file server that hangs, is a problem. docs/doctor.md lists the checks.",
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			found, err := s.findings(c)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				err = writeJSON(s.out, findingsJSON(found))
			} else {
				s.tellFindings(found)
			}
			if n := countStatus(found, doctor.Problem); err == nil && n > 0 {
				return &exitError{code: exitFailed, msg: count(n, "problem")}
			}
			return err
		},
	})
}

func countStatus(found []doctor.Finding, status doctor.Status) int64 {
	var n int64
	for _, f := range found {
		if f.Status == status {
			n++
		}
	}
	return n
}

// findingsJSON is never nil: an array is what was promised.
func findingsJSON(found []doctor.Finding) []jsonFinding {
	out := []jsonFinding{}
	for _, f := range found {
		out = append(out, jsonFinding{Name: f.Name, Status: string(f.Status), Text: f.Text, Mend: f.Mend})
	}
	return out
}

// tellFindings prints a line per finding: columns and the mend below it for a person,
// tabs for a program.
func (s *session) tellFindings(found []doctor.Finding) {
	if !s.out.tty {
		for _, f := range found {
			s.out.printf("%s\t%s\t%s\t%s\n", f.Status, f.Name, oneLine(f.Text), oneLine(f.Mend))
		}
		return
	}
	statusWidth, nameWidth := 0, 0
	for _, f := range found {
		statusWidth, nameWidth = max(statusWidth, len(f.Status)), max(nameWidth, len(f.Name))
	}
	cols, _ := s.out.size()
	indent := statusWidth + nameWidth + 2*gap
	for _, f := range found {
		lines := strings.Split(text.WrapSoft(oneLine(f.Text), max(cols-indent, 20)), "\n")
		s.out.printf("%s%s%s%s%s\n",
			s.out.paint(findingColours[f.Status], string(f.Status)), blank(statusWidth-len(f.Status)+gap),
			s.out.paint(bold, f.Name), blank(nameWidth-len(f.Name)+gap), strings.TrimRight(lines[0], " "))
		for _, line := range lines[1:] {
			s.out.printf("%s%s\n", blank(indent), strings.TrimRight(line, " "))
		}
		if f.Mend != "" { // not wrapped: it may be a command to be copied
			s.out.printf("%s%s %s\n", blank(indent), s.out.paint(bold, "mend:"), oneLine(f.Mend))
		}
	}
	if countStatus(found, doctor.Problem) == 0 {
		s.out.printf("\nno problems, %s\n", count(countStatus(found, doctor.Warning), "warning"))
	}
}

func blank(n int) string { return strings.Repeat(" ", n) }

// inOrder sorts findings as the checks are listed.
func inOrder(found []doctor.Finding) []doctor.Finding {
	place := map[string]int{}
	for i, c := range doctor.Checks() {
		place[c.Name] = i
	}
	slices.SortStableFunc(found, func(a, b doctor.Finding) int { return cmp.Compare(place[a.Name], place[b.Name]) })
	return found
}
