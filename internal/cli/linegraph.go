package cli

import (
	"fmt"
	"slices"
	"strings"
)

// lineGraph is which lines of a file wait for which. The queue wants a task to be there
// before one that waits for it, and a file may have them in any order.
type lineGraph struct {
	lines []lineAt
	ids   map[string]int   // index of the line
	after map[int][]string // by index: the ids that it waits for, of this file or not
}

// add takes in a line; where its id is that of an earlier one it returns that one's number.
func (g *lineGraph) add(l taskLine, offset int64) (earlier int) {
	if g.ids == nil {
		g.ids, g.after = map[string]int{}, map[int][]string{}
	}
	id := l.req.GetId()
	if i, ok := g.ids[id]; ok {
		return g.lines[i].number
	}
	i := len(g.lines)
	g.ids[id] = i
	g.lines = append(g.lines, lineAt{number: l.number, offset: offset})
	for _, d := range l.req.GetSpec().GetAfter() {
		g.after[i] = append(g.after[i], d.GetId())
	}
	return 0
}

// order returns the lines so that each comes after those that it waits for, and else as they
// are in the file; nil where that is so already. Lines that wait for each other in a circle
// are an error.
func (g *lineGraph) order() ([]lineAt, error) {
	if !g.forward() {
		return nil, nil
	}
	w := lineWalk{g: g, seen: make([]bool, len(g.lines)), open: map[int]bool{}, order: make([]lineAt, 0, len(g.lines))}
	for i := range g.lines {
		if err := w.visit(i); err != nil {
			return nil, err
		}
	}
	return w.order, nil
}

// forward says whether a line waits for a later one, or for itself.
func (g *lineGraph) forward() bool {
	for i, ids := range g.after {
		for _, id := range ids {
			if j, ok := g.ids[id]; ok && j >= i {
				return true
			}
		}
	}
	return false
}

// lineWalk goes through the graph. Its path is kept by hand: a file may be one long chain.
type lineWalk struct {
	g     *lineGraph
	seen  []bool
	open  map[int]bool // those on the path
	path  []lineStep
	order []lineAt
}

// lineStep is a line on the path, and how many of those that it waits for have been visited.
type lineStep struct{ line, done int }

func (w *lineWalk) visit(from int) error {
	if w.seen[from] {
		return nil
	}
	w.enter(from)
	for len(w.path) > 0 {
		top := &w.path[len(w.path)-1]
		if top.done == len(w.g.after[top.line]) {
			w.order = append(w.order, w.g.lines[top.line])
			delete(w.open, top.line)
			w.path = w.path[:len(w.path)-1]
			continue
		}
		next, in := w.g.ids[w.g.after[top.line][top.done]]
		top.done++
		switch {
		case !in: // of the queue, which knows it or not
		case w.open[next]:
			return w.circle(next)
		case !w.seen[next]:
			w.enter(next)
		}
	}
	return nil
}

func (w *lineWalk) enter(line int) {
	w.seen[line], w.open[line] = true, true
	w.path = append(w.path, lineStep{line: line})
}

// circleShown bounds the list of lines that wait for each other.
const circleShown = 6

// circle is the error about the path from a line back to itself.
func (w *lineWalk) circle(back int) error {
	begin := slices.IndexFunc(w.path, func(s lineStep) bool { return s.line == back })
	var said []string
	for _, s := range w.path[begin:] {
		// The dependency on the path is the one that was taken last.
		said = append(said, fmt.Sprintf("line %d waits for %s", w.g.lines[s.line].number, w.g.after[s.line][s.done-1]))
	}
	if rest := len(said) - circleShown; rest > 0 {
		said = append(said[:circleShown], fmt.Sprintf("and %s", count(int64(rest), "more line")))
	}
	return usagef("tasks of the file wait for each other in a circle, so that none could start: %s; nothing was submitted", strings.Join(said, ", "))
}
