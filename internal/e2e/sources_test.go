package e2e

import (
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
)

// watchSources looks at all folders with sources of the product, of which this
// package starts the programs and does not import the code: go test remembers what a
// test has looked at, and runs it again when that has changed.
var watchSources = sync.OnceValue(func() error {
	return filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || !d.IsDir():
			return err
		case strings.HasPrefix(d.Name(), ".") && d.Name() != "..", d.Name() == "bin", d.Name() == "docs":
			return fs.SkipDir
		}
		return nil
	})
})
