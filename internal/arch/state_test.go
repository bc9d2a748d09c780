package arch

import (
	"errors"
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"testing"
)

const taskPkg = "internal/task"

// guarded are the fields that only task.Apply writes.
var guarded = []string{"State", "Attempt"}

// storers may call task.New and task.Restore and write a task.Status as a
// literal. Assigning to a guarded field is allowed to nobody, storers included.
// Tests may forge any state: the rules are tried on impossible ones too.
var storers = map[string]string{
	"queue":                "makes tasks of what was accepted, and of what an earlier Apply left on disk",
	"internal/backendtest": "for tests: its engine in memory stands in for the queue",
}

// TestNothingElseWritesState looks for code outside internal/task that sets the
// state or the attempt of a task by hand: by assignment, ++, range, a pointer to
// the field, a literal of task.Status, or task.New and task.Restore.
func TestNothingElseWritesState(t *testing.T) {
	problems, err := stateWrites(source(t))
	if err != nil {
		t.Fatal(err)
	}
	complain(t, problems)
}

// TestTaskIsClosed checks that the compiler does its half: no exported field of
// task.Task holds the state, and no exported method works on a pointer, through
// which it could be changed.
func TestTaskIsClosed(t *testing.T) {
	problems, err := openings(source(t))
	if err != nil {
		t.Fatal(err)
	}
	complain(t, problems)
}

func TestStateRulesBite(t *testing.T) {
	tr := sample(t, map[string]string{
		"internal/task/task.go": `package task
			type State int
			type Status struct { State State; Attempt int; Detail string }
			type Task struct { Seq int; status Status; State State }
			func (t Task) Status() Status { return t.status }
			func (t *Task) Set(s State) { t.status.State = s }
			func New() Task { return Task{} }
			func Restore(s Status) Task { return Task{status: s} }
			type Record struct { State State }`,
		"queue/queue.go": `package queue
			import "example.org/sample/internal/task"
			func decode() task.Task { return task.Restore(task.Status{State: 1, Attempt: 1}) }
			func bad(s task.Status) { s.State = 2 }`,
		"engine/engine.go": `package engine
			import ( "slices"; "example.org/outside"; "example.org/sample/internal/task" )
			type row struct { task.Status }
			func f(t task.Task, s *task.Status, r row, all []task.Status, rec task.Record) {
				s.State = 1
				r.Attempt++
				slices.Clone(all)[0].State = 1
				for _, s.State = range []task.State{1} {}
				_ = &s.Attempt
				outside.Thing().State = 1
				_ = task.Status{State: 1}
				_ = task.New
				_ = task.Restore(*s)
				s.Detail, rec.State = "fine", 1
				_, _ = task.Status{}, task.Status{Detail: "fine"}
			}`,
		"engine/engine_test.go": `package engine
			import "example.org/sample/internal/task"
			func forge(s *task.Status) { s.State = 1 }`,
		"other/other.go": `package other
			type t struct { State int }
			func f(x *t) { x.State = 1 }`,
	})
	problems, err := stateWrites(tr)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"queue/queue.go:4"}
	for line := 5; line <= 13; line++ {
		want = append(want, fmt.Sprintf("engine/engine.go:%d", line))
	}
	expect(t, problems, want...)

	problems, err = openings(tr)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, problems, "internal/task/task.go:4", "internal/task/task.go:6")
}

// stateWrites returns every place that writes a task's state and may not.
func stateWrites(tr *tree) ([]string, error) {
	c := newChecker(tr)
	domain, err := c.Import(tr.module + "/" + taskPkg)
	if err != nil {
		return nil, err
	}
	w := writeFinder{tree: tr, domain: domain, guarded: map[types.Object]bool{}}
	for _, name := range []string{"Task", "Status"} {
		fields, err := structOf(domain, name)
		if err != nil {
			return nil, err
		}
		for f := range fields.Fields() {
			if slices.Contains(guarded, f.Name()) {
				w.guarded[f] = true
			}
		}
	}
	if len(w.guarded) == 0 {
		return nil, fmt.Errorf("neither task.Task nor task.Status has a field of %q: this test looks for the wrong thing", guarded)
	}
	for _, p := range tr.all() {
		if p.dir == taskPkg || !importsTask(tr, p) {
			continue
		}
		w.info = &types.Info{
			Types:      map[ast.Expr]types.TypeAndValue{},
			Selections: map[*ast.SelectorExpr]*types.Selection{},
			Uses:       map[*ast.Ident]types.Object{},
		}
		c.check(tr.module+"/"+p.dir, p, w.info)
		w.storer = storers[p.dir] != ""
		for _, f := range p.files {
			if !f.test {
				ast.Inspect(f.ast, w.visit)
			}
		}
	}
	return w.problems, nil
}

// importsTask says whether a package names internal/task, apart from its tests.
// One that does not can still be handed a task, but it gets a copy, and cannot
// name what would make a changed task of it.
func importsTask(tr *tree, p *pkg) bool {
	return slices.ContainsFunc(p.files, func(f *file) bool {
		_, ok := f.imports(tr.module + "/" + taskPkg)
		return ok && !f.test
	})
}

// openings returns what lets others reach into a task.
func openings(tr *tree) ([]string, error) {
	domain, err := newChecker(tr).Import(tr.module + "/" + taskPkg)
	if err != nil {
		return nil, err
	}
	fields, err := structOf(domain, "Task")
	if err != nil {
		return nil, err
	}
	var problems []string
	for f := range fields.Fields() {
		if f.Exported() && (slices.Contains(guarded, f.Name()) || f.Name() == "Status") {
			problems = append(problems, fmt.Sprintf("%s: field %s of Task is exported: only Apply may write it", tr.at(f.Pos()), f.Name()))
		}
	}
	named, ok := domain.Scope().Lookup("Task").Type().(*types.Named)
	if !ok {
		return nil, errors.New("task.Task is not a type of its own")
	}
	for m := range named.Methods() {
		if _, ptr := m.Signature().Recv().Type().(*types.Pointer); ptr && m.Exported() {
			problems = append(problems, fmt.Sprintf("%s: method %s has a pointer receiver: a task is a value, and Apply returns a changed copy", tr.at(m.Pos()), m.Name()))
		}
	}
	return problems, nil
}

func structOf(p *types.Package, name string) (*types.Struct, error) {
	obj := p.Scope().Lookup(name)
	if obj == nil {
		return nil, fmt.Errorf("%s has no %s", p.Path(), name)
	}
	s, ok := obj.Type().Underlying().(*types.Struct)
	if !ok {
		return nil, fmt.Errorf("%s.%s is no struct", p.Path(), name)
	}
	return s, nil
}

// A writeFinder looks at one package after another.
type writeFinder struct {
	tree     *tree
	domain   *types.Package
	guarded  map[types.Object]bool
	info     *types.Info // of the present package
	storer   bool        // the present package is one
	problems []string
}

func (w *writeFinder) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.AssignStmt:
		for _, lhs := range n.Lhs {
			w.target(lhs, "assigns to")
		}
	case *ast.IncDecStmt:
		w.target(n.X, "counts")
	case *ast.RangeStmt:
		if n.Tok == token.ASSIGN {
			w.target(n.Key, "ranges over")
			w.target(n.Value, "ranges over")
		}
	case *ast.UnaryExpr:
		if n.Op == token.AND {
			w.target(n.X, "takes a pointer to")
		}
	case *ast.CompositeLit:
		if !w.storer && w.setsState(n) {
			w.found(n, "writes a task.Status by hand; only %v may (see storers)", keys(storers))
		}
	case *ast.Ident:
		if obj := w.info.Uses[n]; !w.storer && obj != nil && obj.Parent() == w.domain.Scope() &&
			(obj.Name() == "New" || obj.Name() == "Restore") {
			w.found(n, "uses task.%s; only %v may (see storers)", obj.Name(), keys(storers))
		}
	}
	return true
}

// target looks at an expression that is written to, or could be later.
func (w *writeFinder) target(e ast.Expr, how string) {
	sel, ok := ast.Unparen(e).(*ast.SelectorExpr)
	if !ok || !slices.Contains(guarded, sel.Sel.Name) {
		return
	}
	if s := w.info.Selections[sel]; s != nil {
		if w.guarded[s.Obj()] {
			w.found(sel, "%s %s of a task: only task.Apply writes it", how, sel.Sel.Name)
		}
		return
	}
	if tv := w.info.Types[sel.X]; tv.Type == nil || tv.Type == types.Typ[types.Invalid] {
		w.found(sel, "%s %s of something whose type this test cannot tell; if it is no task, give a variable of a declared type the value first", how, sel.Sel.Name)
	}
}

// setsState says whether a literal names a guarded field. A literal without one
// is no state of anything.
func (w *writeFinder) setsState(lit *ast.CompositeLit) bool {
	return slices.ContainsFunc(lit.Elts, func(e ast.Expr) bool {
		kv, ok := e.(*ast.KeyValueExpr)
		if !ok {
			return false
		}
		id, ok := kv.Key.(*ast.Ident)
		return ok && w.guarded[w.info.Uses[id]]
	})
}

func (w *writeFinder) found(n ast.Node, format string, args ...any) {
	w.problems = append(w.problems, w.tree.at(n.Pos())+": "+fmt.Sprintf(format, args...))
}
