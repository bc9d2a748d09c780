package arch

import (
	"errors"
	"fmt"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// A tree is all Go source of the module.
type tree struct {
	root   string // directory of go.mod
	module string // module path
	fset   *token.FileSet
	pkgs   map[string]*pkg // by directory, relative to the root, with slashes
}

// A pkg is one directory of Go files, of whatever build tags.
type pkg struct {
	dir   string
	files []*file
}

// A file is one parsed Go file.
type file struct {
	name string // relative to the root
	test bool   // its name ends in _test.go
	ast  *ast.File
}

// source parses the module once for all tests.
func source(t *testing.T) *tree {
	t.Helper()
	tr, err := load()
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

var load = sync.OnceValues(func() (*tree, error) {
	root, module, err := findModule()
	if err != nil {
		return nil, err
	}
	tr := &tree{root: root, module: module, fset: token.NewFileSet(), pkgs: map[string]*pkg{}}
	err = filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // somebody's temporary file
		}
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != root && skipped(name, d.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasPrefix(d.Name(), "_") || strings.HasPrefix(d.Name(), ".") {
			return nil
		}
		return tr.add(name, nil)
	})
	return tr, err
})

// sample is a tree that is not on disk, to try a rule on: file name -> text.
func sample(t *testing.T, files map[string]string) *tree {
	t.Helper()
	tr := &tree{root: "/sample", module: "example.org/sample", fset: token.NewFileSet(), pkgs: map[string]*pkg{}}
	for name, text := range files {
		if err := tr.add("/sample/"+name, text); err != nil {
			t.Fatal(err)
		}
	}
	return tr
}

// complain fails the test with each problem that a rule has found.
func complain(t *testing.T, problems []string) {
	t.Helper()
	for _, p := range problems {
		t.Error(p)
	}
}

// expect compares where problems were found ("file:line", the beginning of
// each) with where they should be.
func expect(t *testing.T, problems []string, want ...string) {
	t.Helper()
	var got []string
	for _, p := range problems {
		at, _, _ := strings.Cut(p, ": ")
		got = append(got, at)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("found problems at %v, want %v\n%s", got, want, strings.Join(problems, "\n"))
	}
}

// skipped says whether the Go tool would not look into a directory either.
func skipped(dir, base string) bool {
	if base == "testdata" || base == "vendor" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
		return true
	}
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil // a module of its own, such as internal/tools/lint
}

// add parses a file; its text is read from disk unless src gives it.
func (tr *tree) add(name string, src any) error {
	parsed, err := parser.ParseFile(tr.fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	if ignored(parsed) {
		return nil
	}
	rel, err := filepath.Rel(tr.root, name)
	if err != nil {
		return err
	}
	rel = filepath.ToSlash(rel)
	dir := path.Dir(rel)
	p := tr.pkgs[dir]
	if p == nil {
		p = &pkg{dir: dir}
		tr.pkgs[dir] = p
	}
	p.files = append(p.files, &file{name: rel, test: strings.HasSuffix(rel, "_test.go"), ast: parsed})
	return nil
}

// ignored says whether a file belongs to no package: "//go:build ignore", the
// mark of a program that go run is given by name.
func ignored(f *ast.File) bool {
	for _, group := range f.Comments {
		if group.Pos() > f.Package {
			break
		}
		for _, c := range group.List {
			if !constraint.IsGoBuild(c.Text) {
				continue
			}
			expr, err := constraint.Parse(c.Text)
			if err == nil && !expr.Eval(func(tag string) bool { return tag != "ignore" }) &&
				expr.Eval(func(string) bool { return true }) {
				return true
			}
		}
	}
	return false
}

// findModule looks for the go.mod above the directory the test runs in.
func findModule() (root, module string, err error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", "", err
	}
	for {
		data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil {
			m := regexp.MustCompile(`(?m)^module\s+(\S+)`).FindSubmatch(data)
			if m == nil {
				return "", "", fmt.Errorf("%s/go.mod names no module", dir)
			}
			return dir, string(m[1]), nil
		}
		if parent := filepath.Dir(dir); parent != dir {
			dir = parent
			continue
		}
		return "", "", errors.New("no go.mod above the working directory")
	}
}

// all returns the packages in order of their directories.
func (tr *tree) all() []*pkg {
	var pkgs []*pkg
	for _, p := range tr.pkgs {
		pkgs = append(pkgs, p)
	}
	slices.SortFunc(pkgs, func(a, b *pkg) int { return strings.Compare(a.dir, b.dir) })
	return pkgs
}

// own returns the directory of an import path of this module. The root package
// is ".".
func (tr *tree) own(importPath string) (dir string, ok bool) {
	if importPath == tr.module {
		return ".", true
	}
	return strings.CutPrefix(importPath, tr.module+"/")
}

// at returns "file:line" of a position.
func (tr *tree) at(pos token.Pos) string {
	p := tr.fset.Position(pos)
	rel, err := filepath.Rel(tr.root, p.Filename)
	if err != nil {
		rel = p.Filename
	}
	return fmt.Sprintf("%s:%d", filepath.ToSlash(rel), p.Line)
}

// importPath returns what an import declaration imports.
func importPath(spec *ast.ImportSpec) string {
	p, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		return spec.Path.Value // the parser let it pass; no rule will match it
	}
	return p
}

// imports returns the name under which a file imports a path, if it does.
func (f *file) imports(want string) (name string, ok bool) {
	for _, spec := range f.ast.Imports {
		if importPath(spec) != want {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name, true
		}
		return path.Base(want), true
	}
	return "", false
}

// names says whether an expression is pkg.name for one of the names, where pkg
// is a package's name in the file.
func names(e ast.Expr, pkg string, name ...string) bool {
	sel, ok := ast.Unparen(e).(*ast.SelectorExpr)
	if !ok {
		return false
	}
	x, ok := sel.X.(*ast.Ident)
	return ok && x.Name == pkg && slices.Contains(name, sel.Sel.Name)
}

// matches says whether a package or import path fits a pattern: the path
// itself, or "x/..." for x and everything below it.
func matches(pattern, p string) bool {
	prefix, deep := strings.CutSuffix(pattern, "...")
	if !deep {
		return pattern == p
	}
	return strings.HasPrefix(p, prefix) || p == strings.TrimSuffix(prefix, "/")
}

func matchesAny(patterns []string, p string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return matches(pattern, p) })
}
