package cli

import (
	"fmt"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"
)

// board shows how several things come along: on a terminal each has a line that changes,
// else there is a line for each change that is worth one.
type board struct {
	out   *screen
	all   []*boardLine
	drawn int // lines that are on the terminal
}

// boardLine is one of the things.
type boardLine struct {
	name, word, text string
	settled          bool   // nothing more is to be expected of it
	told             string // in a pipe
}

// note says how one is. settled: nothing more is to be expected of it; tell: it is worth a
// line of its own.
func (b *board) note(name, word, said string, settled, tell bool) {
	l := b.line(name)
	l.word, l.text, l.settled = word, said, settled
	if b.out.control() {
		b.draw()
		return
	}
	if line := name + "\t" + word + "\t" + said; tell && l.told != line {
		l.told = line
		b.out.printf("%s\n", strings.TrimRight(line, "\t"))
	}
}

func (b *board) line(name string) *boardLine {
	for _, l := range b.all {
		if l.name == name {
			return l
		}
	}
	l := &boardLine{name: name}
	b.all = append(b.all, l)
	return l
}

// draw writes all lines anew in one write, so that they do not flicker.
func (b *board) draw() {
	cols, rows := b.out.size()
	wide := 0
	for _, l := range b.all {
		wide = max(wide, text.StringWidthWithoutEscSequences(l.name))
	}
	var buf strings.Builder
	if b.drawn > 0 {
		fmt.Fprintf(&buf, "\x1b[%dA", b.drawn)
	}
	shown := b.fitting(rows - 1)
	for _, l := range shown {
		line := text.Pad(l.name, wide+gap, ' ') + b.out.paint(serviceColours[l.word], text.Pad(l.word, wordWidth, ' ')) + l.text
		buf.WriteString("\r" + b.out.clip(strings.TrimRight(line, " "), cols-1) + clearLine + "\n")
	}
	buf.WriteString(clearBelow)
	b.drawn = len(shown)
	b.out.printf("%s", buf.String())
}

// wordWidth is that of the words of env-manager's contract, of which "downloading" is the
// longest.
const wordWidth = len("downloading") + gap

// fitting returns the lines that have room: what has settled gives way first.
func (b *board) fitting(rows int) []*boardLine {
	over := len(b.all) - rows
	var out []*boardLine
	for _, l := range b.all {
		if over > 0 && l.settled {
			over--
			continue
		}
		out = append(out, l)
	}
	return out[:max(min(len(out), rows), 0)]
}
