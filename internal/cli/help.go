package cli

import (
	"cmp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// The layout of the help: what fits a terminal of the usual width.
const (
	helpWidth  = 80
	helpIndent = 3
)

// commandHelp is the help of a command, a template for the library. It is laid out
// here, since the library neither breaks lines nor keeps columns.
func commandHelp(c *cli.Command) string {
	var b strings.Builder
	b.WriteString(hang(cmp.Or(c.HelpName, Program+" "+c.Name)+" - ", c.Usage) + "\nusage:\n")
	for line := range strings.SplitSeq(c.UsageText, "\n") {
		b.WriteString(hang(strings.Repeat(" ", helpIndent), line))
	}
	if c.Description != "" {
		b.WriteString("\n" + layOut(c.Description))
	}
	own, later := splitFlags(c.Flags)
	b.WriteString("\nflags:\n" + flagTable(append(own, cli.HelpFlag)))
	if len(later) > 0 {
		b.WriteString("\n" + categoryLater + ":\n" + flagTable(later))
	}
	return b.String()
}

// appHelp is the help of the program.
func appHelp(a *cli.App) string {
	return `NAME:
   {{.Name}} - {{.Usage}}

USAGE:
   {{.UsageText}}

VERSION:
   {{.Version}}

DESCRIPTION:
` + layOut(a.Description) + `
COMMANDS:{{template "visibleCommandCategoryTemplate" .}}

GLOBAL OPTIONS:
` + flagTable(append(slices.Clone(a.Flags), cli.VersionFlag))
}

// splitFlags puts those of later releases apart.
func splitFlags(flags []cli.Flag) (own, later []cli.Flag) {
	for _, f := range flags {
		if c, ok := f.(cli.CategorizableFlag); ok && c.GetCategory() == categoryLater {
			later = append(later, f)
		} else {
			own = append(own, f)
		}
	}
	return own, later
}

// flagTable is a line or more for each flag.
func flagTable(flags []cli.Flag) string {
	width := 0
	for _, f := range flags {
		width = max(width, len(flagSyntax(f)))
	}
	var b strings.Builder
	for _, f := range flags {
		syntax := flagSyntax(f)
		b.WriteString(hang(strings.Repeat(" ", helpIndent)+syntax+strings.Repeat(" ", width-len(syntax)+2), flagText(f)))
	}
	return b.String()
}

// flagSyntax is how a flag is written: "--tail N, -n".
func flagSyntax(f cli.Flag) string {
	d, _ := f.(cli.DocGenerationFlag)
	out := "--" + f.Names()[0]
	if takesValue(f) {
		_, rest, _ := strings.Cut(d.GetUsage(), "`")
		value, _, _ := strings.Cut(rest, "`")
		out += " " + value
	}
	return strings.Join(append([]string{out}, f.Names()[1:]...), ", -")
}

// flagText is what a flag does, and what holds without it.
func flagText(f cli.Flag) string {
	d, _ := f.(cli.DocGenerationFlag)
	text := strings.ReplaceAll(d.GetUsage(), "`", "")
	if def := d.GetDefaultText(); takesValue(f) && def != "" && def != "0" {
		text += " (default: " + def + ")"
	}
	return text
}

// layOut breaks a text into lines. Lines that belong together become a paragraph; one
// with a column in it, as "stats  for each class ...", stays a line of its own, and
// goes on below its column.
func layOut(text string) string {
	var b, paragraph strings.Builder
	margin := strings.Repeat(" ", helpIndent)
	flush := func() {
		if paragraph.Len() > 0 {
			b.WriteString(hang(margin, paragraph.String()))
			paragraph.Reset()
		}
	}
	for line := range strings.SplitSeq(text, "\n") {
		term, rest, column := cutColumn(line)
		switch {
		case column:
			flush()
			b.WriteString(hang(margin+term, rest))
		case line == "":
			flush()
			b.WriteString("\n")
		default:
			paragraph.WriteString(line + " ")
		}
	}
	flush()
	return b.String()
}

// cutColumn splits a line behind its first gap of two spaces or more.
func cutColumn(line string) (term, rest string, ok bool) {
	from := len(line) - len(strings.TrimLeft(line, " "))
	gap := strings.Index(line[from:], "  ")
	if gap < 0 {
		return "", line, false
	}
	rest = strings.TrimLeft(line[from+gap:], " ")
	return line[:len(line)-len(rest)], rest, true
}

// hang writes a text behind a head, and what does not fit below its beginning.
func hang(head, text string) string {
	if len(head)+len(text) <= helpWidth {
		return head + strings.TrimRight(text, " ") + "\n"
	}
	var b strings.Builder
	line := head
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
			line += word
		case len(line)+1+len(word) > helpWidth:
			b.WriteString(line + "\n")
			line = strings.Repeat(" ", len(head)) + word
		default:
			line += " " + word
		}
	}
	return b.String() + line + "\n"
}
