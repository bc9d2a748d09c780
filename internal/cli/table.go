package cli

import (
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// grid is a table: columns for a person, tabs for a program.
type grid struct {
	header []string
	rows   [][]string
	right  []int // columns that hold numbers
	whole  []int // columns that are never cut: half a state is none
	drop   []int // columns that are left out, in this order, where there is no room
}

func (g *grid) add(cells ...string) { g.rows = append(g.rows, cells) }

// write prints the table. On a terminal it does not wrap: see limits for which
// column gives way, and what is cut off has an ellipsis. In a pipe nothing is cut off.
func (g *grid) write(w *screen) {
	if !w.tty {
		if g.header != nil { // it stands once, above the first page
			w.printf("%s\n", strings.Join(g.header, "\t"))
		}
		for _, r := range g.rows {
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
		var r table.Row
		for i, c := range cells {
			switch {
			case limits[i] == 0: // left out
			case i == 0: // ids of one kind begin alike: their ends tell them apart
				r = append(r, w.paint(colour, w.clipMiddle(c, limits[i])))
			default:
				r = append(r, w.paint(colour, w.clip(c, limits[i])))
			}
		}
		return r
	}
	t.AppendRow(row(g.header, bold))
	for _, cells := range g.rows {
		t.AppendRow(row(cells, ""))
	}
	var configs []table.ColumnConfig
	number := 0
	for i, limit := range limits {
		if limit == 0 {
			continue
		}
		number++
		if slices.Contains(g.right, i) {
			configs = append(configs, table.ColumnConfig{Number: number, Align: text.AlignRight})
		}
	}
	t.SetColumnConfigs(configs)
	for line := range strings.Lines(t.Render()) {
		w.printf("%s\n", strings.TrimRight(line, " \n"))
	}
}

// How narrow a column may get, where the row has no room: to where a text still
// says something while there are columns to leave out, then to where it says a
// little; the first one to where both ends of an id are still to be seen.
const (
	easyWidth  = 12
	leastWidth = 6
	leastID    = 9
	mostID     = 26 // where not all fits; an id of ours is that long
)

// limits returns how wide each column may be for the row to fit, 0 for one that
// is left out. The widest text gives way first. The first column is what people
// copy into the next command, so it gives way last.
func (g *grid) limits(cols int) []int {
	width := make([]int, len(g.header))
	for i := range g.header {
		width[i] = text.StringWidthWithoutEscSequences(g.header[i])
		for _, r := range g.rows {
			width[i] = max(width[i], text.StringWidthWithoutEscSequences(r[i]))
		}
	}
	if rowWidth(width) > cols { // one id of hundreds of characters is not to leave nothing of the rest
		width[0] = min(width[0], max(mostID, cols*2/5))
	}
	g.shrink(width, cols, easyWidth)
	for _, i := range g.drop {
		if rowWidth(width) <= cols {
			return width
		}
		width[i] = 0
	}
	g.shrink(width, cols, leastWidth)
	if over := rowWidth(width) - cols; over > 0 {
		width[0] = min(width[0], max(width[0]-over, leastID))
	}
	return width
}

// shrink takes from the widest columns until the row fits or none is wider than
// least.
func (g *grid) shrink(width []int, cols, least int) {
	for over := rowWidth(width) - cols; over > 0; over-- {
		widest := 0
		for i := 1; i < len(width); i++ {
			if width[i] > least && !slices.Contains(g.whole, i) && (widest == 0 || width[i] > width[widest]) {
				widest = i
			}
		}
		if widest == 0 {
			return
		}
		width[widest]--
	}
}

func rowWidth(width []int) int {
	total := -gap
	for _, w := range width {
		if w > 0 {
			total += w + gap
		}
	}
	return total
}
