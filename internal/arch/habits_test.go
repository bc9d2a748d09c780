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

// TestNoDisguisedSleepingInTests forbids the same in other words: to receive from
// time.After, or from the channel C of a timer or ticker, outside a select with
// another case. Where a test looks at something outside its process, which nobody
// announces, such a receive is allowed on a line whose comment says "polls"; and a
// loop that pauses has to end by itself: it looks at the time, or waits for
// something else as well.
func TestNoDisguisedSleepingInTests(t *testing.T) {
	complain(t, disguises(source(t)))
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
	expect(t, disguises(tr))
	expect(t, textDecisions(tr), "a/a.go:5", "a/a_test.go:9")
}

func TestDisguisesAreSeen(t *testing.T) {
	tr := sample(t, map[string]string{
		"a/a.go": `package a
			import "time"
			func f() { <-time.After(1) }`,
		"a/a_test.go": `package a
			import ( "runtime"; "time"; "testing/synctest"; "golang.org/x/sys/unix" )
			func f(t *testing.T, done chan int) {
				<-time.After(1)
				x := <-time.NewTimer(1).C
				select {
				case <-time.After(1):
				}
				select {
				case <-done:
				case <-time.After(1):
				}
				tick := time.NewTicker(1)
				<-tick.C // polls a file
				unix.Nanosleep(nil, nil)
				synctest.Test(t, func(t *testing.T) {
					<-time.After(1)
				})
			}
			func pause() {
				<-time.NewTimer(1).C // polls
			}
			func loops(done chan int) {
				for !ready() {
					pause()
				}
				for late := time.Now(); time.Since(late) < 9; {
					pause()
				}
				for {
					runtime.Gosched()
				}
				for {
					select {
					case <-done:
						return
					default:
					}
					pause()
				}
				for range 9 {
					pause()
				}
				for !ready() {
					select {
					case <-time.After(1):
					case <-time.Tick(1):
					}
				}
				for !ready() {
					select {
					case <-done:
					case <-time.After(1):
					}
				}
			}`,
	})
	expect(t, disguises(tr), "a/a_test.go:4", "a/a_test.go:5", "a/a_test.go:7", "a/a_test.go:15", "a/a_test.go:24", "a/a_test.go:30", "a/a_test.go:44")
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
