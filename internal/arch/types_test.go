package arch

import (
	"go/ast"
	"go/build"
	"go/importer"
	"go/token"
	"go/types"
	"path"
	"slices"
	"sync"
)

// A checker gives types to the files of the module, reading packages of the
// project from source. Of the standard library it reads what hands a task
// through unchanged (generics, mostly); everything else is left empty, and what
// comes from there has no type. That is enough to know a task when one is seen,
// takes a second, and needs no build.
type checker struct {
	tree *tree
	pkgs map[string]*types.Package // without tests, by import path
}

var carriers = []string{
	"cmp", "container/heap", "container/list", "errors", "iter", "maps", "slices", "sort", "sync", "sync/atomic", "time",
}

// std reads packages of the standard library, each once for all checkers.
var std = sync.OnceValue(func() types.Importer {
	build.Default.CgoEnabled = false // or the importer would run cgo
	return importer.ForCompiler(token.NewFileSet(), "source", nil)
})

func newChecker(tr *tree) *checker {
	return &checker{tree: tr, pkgs: map[string]*types.Package{}}
}

// Import implements types.Importer. It does not fail: a package that cannot be
// read is empty.
func (c *checker) Import(imp string) (*types.Package, error) {
	if p, ok := c.pkgs[imp]; ok {
		return p, nil
	}
	p := types.NewPackage(imp, path.Base(imp))
	c.pkgs[imp] = p // ends a cycle
	if dir, ok := c.tree.own(imp); ok {
		if own := c.tree.pkgs[dir]; own != nil {
			p = c.check(imp, own, nil)
		}
	} else if slices.Contains(carriers, imp) {
		if read, err := std().Import(imp); err == nil {
			p = read
		}
	}
	p.MarkComplete()
	c.pkgs[imp] = p
	return p, nil
}

// check gives types to a package without its tests. With an info it looks into
// functions too, and records there what it learns. Errors are ignored: the
// compiler reports them better, and most are about what was left empty.
func (c *checker) check(imp string, p *pkg, info *types.Info) *types.Package {
	var files []*ast.File
	for _, f := range p.files {
		if !f.test {
			files = append(files, f.ast)
		}
	}
	conf := types.Config{
		Importer:         c,
		FakeImportC:      true,
		IgnoreFuncBodies: info == nil,
		Error:            func(error) {},
	}
	checked, _ := conf.Check(imp, c.tree.fset, files, info)
	return checked
}
