package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/runtimedir"
)

// checkRuntimeDir looks at the directory of the sockets, and makes none.
func checkRuntimeDir(_ context.Context, x *examination, cfg config.Config) []Finding {
	dir := runtimedir.Path(cfg.RuntimeDir, x.UID)
	out := good("%s is ours alone", dir)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		out = good("%s is made when the daemon starts", dir)
	} else if err := runtimedir.Ensure(dir, x.UID); err != nil {
		out = bad(Problem, err.Error(), "") // the error says what to do
	}
	if given := cfg.RuntimeDir; given != "" && filepath.Dir(dir) != filepath.Clean(given) {
		if info, err := os.Stat(given); err != nil || !info.IsDir() {
			out = append(out, bad(Warning, fmt.Sprintf("XDG_RUNTIME_DIR is %s, which is not a folder, so %s is used", given, dir), "log in anew, or unset it")...)
		}
	}
	if o := x.liveOwner(); o != nil && o.Socket != "" && filepath.Dir(o.Socket) != dir {
		out = append(out, bad(Note, fmt.Sprintf("the daemon was started with another runtime directory; commands find it in %s all the same", filepath.Dir(o.Socket)), "")...)
	}
	return out
}
