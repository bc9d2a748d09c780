package cli

import (
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// grid is a table: columns for a person, tabs for a program.
type grid struct {
	header []string
	rows   [][]string
	right  []int // columns that hold numbers
}

func (g *grid) add(cells ...string) { g.rows = append(g.rows, cells) }

// write prints the table. On a terminal it never wraps: the widest column gives
// way, and what is cut off has an ellipsis. In a pipe nothing is cut off.
func (g *grid) write(w *screen) {
	if !w.tty {
		for _, r := range append([][]string{g.header}, g.rows...) {
			w.printf("%s\n", strings.Join(r, "\t"))
		}
		return
	}
	cols, _ := w.size()
	g.render(w, cols)
}

const gap = 2 // columns between two columns

func (g *grid) render(w *screen, cols int) {
	limits := g.limits(cols)
	t := table.NewWriter()
	t.SetStyle(table.Style{
		Box:     table.BoxStyle{PaddingRight: strings.Repeat(" ", gap)},
		Format:  table.FormatOptions{Header: text.FormatDefault},
		Options: table.Options{DrawBorder: false, SeparateColumns: false, SeparateHeader: false},
	})
	row := func(cells []string, colour string) table.Row {
		r := make(table.Row, len(cells))
		for i, c := range cells {
			r[i] = w.paint(colour, w.clip(c, limits[i]))
		}
		return r
	}
	t.AppendRow(row(g.header, bold))
	for _, cells := range g.rows {
		t.AppendRow(row(cells, ""))
	}
	var configs []table.ColumnConfig
	for _, c := range g.right {
		configs = append(configs, table.ColumnConfig{Number: c + 1, Align: text.AlignRight})
	}
	t.SetColumnConfigs(configs)
	for line := range strings.Lines(t.Render()) {
		w.printf("%s\n", strings.TrimRight(line, " \n"))
	}
}

// limits returns how wide each column may be for the row to fit: the widest
// give way first, down to a width at which they still say something. The first
// column is what people copy into the next command, so it gives way last.
func (g *grid) limits(cols int) []int {
	const least = 6
	width := make([]int, len(g.header))
	total := 0
	for i := range g.header {
		width[i] = text.StringWidthWithoutEscSequences(g.header[i])
		for _, r := range g.rows {
			width[i] = max(width[i], text.StringWidthWithoutEscSequences(r[i]))
		}
		total += width[i] + gap
	}
	total -= gap
	for total > cols {
		widest := 0
		for i := 1; i < len(width); i++ {
			if width[i] > least && (widest == 0 || width[i] > width[widest]) {
				widest = i
			}
		}
		if width[widest] <= least {
			break
		}
		width[widest]--
		total--
	}
	return width
}
