package arch

import (
	"go/ast"
	"strings"
	"testing"
)

// TestNoSleepingInTests forbids time.Sleep in tests: it is too short on a busy
// machine and too long on every other. A test waits for the event itself, or
// lets the fake clock of testing/synctest run. Inside such a bubble Sleep is how
// time passes: it is allowed in the function given to synctest.Test, and, for a
// helper that runs in a bubble, on a line whose comment says "synctest".
func TestNoSleepingInTests(t *testing.T) {
	complain(t, sleeps(source(t)))
}

// TestErrorsAreNotReadAsText forbids deciding by the words of an error:
// strings.Contains(err.Error(), ...) and its like. Words change; errors.Is and
// the codes of internal/task do not. A test that is about a message takes the
// message into a variable first.
func TestErrorsAreNotReadAsText(t *testing.T) {
	complain(t, textDecisions(source(t)))
}

func TestHabitRulesBite(t *testing.T) {
	tr := sample(t, map[string]string{
		"a/a.go": `package a
			import ( "strings"; "time" )
			func f(err error) {
				time.Sleep(1)
				_ = strings.Contains(err.Error(), "x")
				_ = strings.Contains(f2(), err.Error())
				msg := err.Error()
				_ = strings.HasPrefix(msg, "x")
			}`,
		"a/a_test.go": `package a
			import ( clock "time"; "testing/synctest"; "strings" )
			func f(t *testing.T) {
				clock.Sleep(1)
				synctest.Test(t, func(t *testing.T) {
					clock.Sleep(1)
				})
				clock.Sleep(1) // in a synctest bubble
				_ = strings.HasPrefix((err.Error()), "x")
				_ = clock.Sleep
			}`,
	})
	expect(t, sleeps(tr), "a/a_test.go:4", "a/a_test.go:10")
	expect(t, textDecisions(tr), "a/a.go:5", "a/a_test.go:9")
}

// sleeps returns where tests use time.Sleep for real.
func sleeps(tr *tree) []string {
	var problems []string
	for _, p := range tr.all() {
		for _, f := range p.files {
			clock, ok := f.imports("time")
			if !ok || !f.test {
				continue
			}
			bubble, _ := f.imports("testing/synctest")
			excused := linesSaying(tr, f, "synctest")
			ast.Inspect(f.ast, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok && bubble != "" && names(call.Fun, bubble, "Test") {
					return false
				}
				if e, ok := n.(ast.Expr); ok && names(e, clock, "Sleep") && !excused[tr.fset.Position(e.Pos()).Line] {
					problems = append(problems, tr.at(e.Pos())+": time.Sleep in a test: wait for the event itself, or use testing/synctest")
				}
				return true
			})
		}
	}
	return problems
}

// linesSaying returns the lines of a file that have a comment with a word.
func linesSaying(tr *tree, f *file, word string) map[int]bool {
	lines := map[int]bool{}
	for _, group := range f.ast.Comments {
		for _, c := range group.List {
			if strings.Contains(c.Text, word) {
				lines[tr.fset.Position(c.Pos()).Line] = true
			}
		}
	}
	return lines
}

// textDecisions returns where the text of an error is searched.
func textDecisions(tr *tree) []string {
	searches := []string{"Contains", "ContainsAny", "Cut", "EqualFold", "Fields", "HasPrefix", "HasSuffix", "Index", "Split"}
	var problems []string
	for _, p := range tr.all() {
		for _, f := range p.files {
			pkg, ok := f.imports("strings")
			if !ok {
				continue
			}
			ast.Inspect(f.ast, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if ok && names(call.Fun, pkg, searches...) && len(call.Args) > 0 && isErrorText(call.Args[0]) {
					problems = append(problems, tr.at(call.Pos())+": decides by the text of an error: use errors.Is, errors.As or a code (a test of the message itself: msg := err.Error() first)")
				}
				return true
			})
		}
	}
	return problems
}

// isErrorText says whether an expression is a call of x.Error().
func isErrorText(e ast.Expr) bool {
	call, ok := ast.Unparen(e).(*ast.CallExpr)
	if !ok || len(call.Args) != 0 {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	return ok && sel.Sel.Name == "Error"
}
