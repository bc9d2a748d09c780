package arch

import (
	"go/ast"
	"go/token"
)

// pauses finds in one test file what lets time pass and does nothing else.
type pauses struct {
	tr      *tree
	f       *file
	excused map[int]bool    // lines whose comment says "polls"
	helpers map[string]bool // functions of the package that only pause
	// Local names of the packages; "" = not imported.
	time, runtime, unix, bubble string
}

// disguises returns where tests sleep without calling time.Sleep, and where they
// poll for something that may never come.
func disguises(tr *tree) []string {
	var problems []string
	for _, p := range tr.all() {
		helpers := map[string]bool{}
		for _, f := range p.files {
			if f.test {
				newPauses(tr, f, helpers).findHelpers()
			}
		}
		for _, f := range p.files {
			if f.test {
				problems = append(problems, newPauses(tr, f, helpers).problems()...)
			}
		}
	}
	return problems
}

func newPauses(tr *tree, f *file, helpers map[string]bool) *pauses {
	s := &pauses{tr: tr, f: f, excused: linesSaying(tr, f, "polls"), helpers: helpers}
	s.time, _ = f.imports("time")
	s.runtime, _ = f.imports("runtime")
	s.unix, _ = f.imports("golang.org/x/sys/unix")
	s.bubble, _ = f.imports("testing/synctest")
	return s
}

// findHelpers notes the functions that pause and have no loop of their own.
func (s *pauses) findHelpers() {
	for _, d := range s.f.ast.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Recv != nil || fn.Body == nil {
			continue
		}
		pauses, loops := false, false
		ast.Inspect(fn.Body, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ForStmt, *ast.RangeStmt, *ast.SelectStmt, *ast.FuncLit:
				loops = true
			case *ast.UnaryExpr:
				pauses = pauses || s.fromTimer(n)
			}
			return true
		})
		s.helpers[fn.Name.Name] = pauses && !loops
	}
}

func (s *pauses) problems() (found []string) {
	complain := func(at token.Pos, text string) { found = append(found, s.tr.at(at)+": "+text) }
	ast.Inspect(s.f.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if s.bubble != "" && names(n.Fun, s.bubble, "Test") {
				return false // time is another there
			}
			if s.unix != "" && names(n.Fun, s.unix, "Nanosleep", "ClockNanosleep") {
				complain(n.Pos(), "sleeps in a test: wait for the event itself")
			}
		case *ast.SelectStmt:
			if s.choice(n) {
				for _, c := range n.Body.List {
					s.allow(c)
				}
			}
		case *ast.ForStmt:
			if s.endless(n) {
				complain(n.Pos(), "polls without a bound: give it a deadline, and say what did not come")
			}
		case *ast.UnaryExpr:
			if s.fromTimer(n) && !s.excused[s.line(n)] {
				complain(n.Pos(), "sleeps in a test: wait for the event itself; where nobody announces it, look again and again, with \"polls\" and what in the comment")
			}
		}
		return true
	})
	return found
}

func (s *pauses) line(n ast.Node) int { return s.tr.fset.Position(n.Pos()).Line }

// allow excuses what a case of a select receives from.
func (s *pauses) allow(clause ast.Stmt) {
	if c, ok := clause.(*ast.CommClause); ok && c.Comm != nil {
		s.excused[s.line(c.Comm)] = true
	}
}

// choice says whether a select waits for something beside the time.
func (s *pauses) choice(sel *ast.SelectStmt) bool { return len(sel.Body.List) > 1 }

// fromTimer says whether an expression receives from a timer: from time.After or
// time.Tick, or from a channel that is called C.
func (s *pauses) fromTimer(e *ast.UnaryExpr) bool {
	if e.Op != token.ARROW || s.time == "" {
		return false
	}
	switch from := ast.Unparen(e.X).(type) {
	case *ast.CallExpr:
		return names(from.Fun, s.time, "After", "Tick")
	case *ast.SelectorExpr:
		return from.Sel.Name == "C"
	}
	return false
}

// endless says whether a loop pauses in every round, and has nothing that ends it
// but what it waits for: no look at the time, and no channel that is not a timer's.
func (s *pauses) endless(loop *ast.ForStmt) bool {
	pauses, bounded := false, false
	ast.Inspect(loop, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false // it runs when somebody calls it
		case *ast.CallExpr:
			fn, _ := n.Fun.(*ast.Ident)
			switch {
			case fn != nil && s.helpers[fn.Name], s.runtime != "" && names(n.Fun, s.runtime, "Gosched"):
				pauses = true
			case s.time != "" && names(n.Fun, s.time, "Now", "Since", "Until"):
				bounded = true
			}
		case *ast.UnaryExpr:
			if s.fromTimer(n) {
				pauses = true
			} else if n.Op == token.ARROW {
				bounded = true
			}
		}
		return true
	})
	return pauses && !bounded
}
