package template

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// The keys of a payload that choose a template.
const (
	keyTemplate = "template"
	keyMethod   = "method"
)

// MaxBytes is how long a template may be.
const MaxBytes = 256 << 10

// endings are those of the files, in the order in which they are looked for.
var endings = []string{"", ".sh", ".sbatch", ".slurm", goEnding}

const goEnding = ".tmpl"

// name is what a template may be called: a name, never a path.
var name = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$`)

// A Folder has templates. It may be used by several goroutines.
type Folder struct {
	dir string
	uid uint32 // whose files may be used, beside root's

	mu   sync.Mutex
	read map[string]file // by path
}

// file is one that was read, and what it was like then.
type file struct {
	template *Template
	size     int64
	changed  time.Time
}

// Open returns the folder, which need not be there yet; "" = there are no templates.
func Open(dir string) *Folder {
	return &Folder{dir: dir, uid: uint32(os.Getuid()), read: map[string]file{}} //nolint:gosec // a uid has 32 bits
}

// Dir is where it is.
func (f *Folder) Dir() string { return f.dir }

// Choose returns the template for a task: the one that its payload names, else that of
// its method, else that of its class; nil = none. A template that is named and not there,
// or not fit to be used, is an Error with CodeInvalid; where the folder cannot be read now,
// or is not there, nobody knows, and the Error has CodeUnavailable.
func (f *Folder) Choose(payload json.RawMessage, class string) (*Template, error) {
	chosen, err := members(payload)
	if err != nil {
		return nil, task.Errorf(task.CodeInvalid, "the payload is no JSON object: %w", err)
	}
	if isThere(chosen[keyTemplate]) {
		return f.named(chosen[keyTemplate])
	}
	if f.dir == "" {
		return nil, nil //nolint:nilnil // no template is an answer
	}
	var method string
	if json.Unmarshal(chosen[keyMethod], &method) != nil || !name.MatchString(method) {
		method = "" // the program's own word
	}
	for _, n := range []string{method, class} {
		if !name.MatchString(n) {
			continue
		}
		if t, err := f.find(n); err != nil || t != nil {
			return t, err
		}
	}
	return nil, nil //nolint:nilnil // no template is an answer
}

// Named says that a payload names its template itself.
func Named(payload json.RawMessage) bool {
	chosen, err := members(payload)
	return err == nil && isThere(chosen[keyTemplate])
}

// members are those of a payload, by the very words that they have there.
func members(payload json.RawMessage) (out map[string]json.RawMessage, err error) {
	if len(payload) > 0 {
		err = json.Unmarshal(payload, &out)
	}
	return out, err
}

func isThere(v json.RawMessage) bool { return len(v) > 0 && string(v) != "null" }

// named returns the template that a payload asks for.
func (f *Folder) named(raw json.RawMessage) (*Template, error) {
	var n string
	switch err := json.Unmarshal(raw, &n); {
	case err != nil || !name.MatchString(n):
		return nil, task.Errorf(task.CodeInvalid, `"template" is %s; it must be the name of a file in the folder of templates, and no path`, short(string(raw)))
	case f.dir == "":
		return nil, task.Errorf(task.CodeInvalid, `"template" is %q, and there is no folder of templates: set templates in [slurm] of the configuration`, n)
	}
	t, err := f.find(n)
	if err != nil || t != nil {
		return t, err
	}
	there, err := f.Names()
	if err != nil {
		return nil, err
	}
	return nil, task.Errorf(task.CodeInvalid, `"template" is %q, which is not in %s; there are %s`, n, f.dir, listed(there))
}

func listed(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// Names lists the templates.
func (f *Folder) Names() ([]string, error) {
	if f.dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(f.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the folder of templates: %w", err)
	}
	var out []string
	for _, e := range entries {
		n := e.Name()
		if e.IsDir() || !name.MatchString(n) {
			continue
		}
		if end := filepath.Ext(n); end != "" && !slices.Contains(endings, end) {
			continue // a text about them, say
		}
		out = append(out, stem(n))
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// stem is what a file's template is called.
func stem(file string) string {
	if end := filepath.Ext(file); slices.Contains(endings, end) {
		return strings.TrimSuffix(file, end)
	}
	return file
}

// find returns the template of that name; nil when there is none.
func (f *Folder) find(n string) (*Template, error) {
	var found *Template
	for _, end := range endings {
		t, err := f.load(filepath.Join(f.dir, n+end))
		var unfit *unfitError
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case errors.As(err, &unfit):
			return nil, task.Errorf(task.CodeInvalid, "template %s: %w", n, err)
		case err != nil:
			return nil, unread(n, err)
		case found != nil:
			return nil, task.Errorf(task.CodeInvalid, "template %s: there are %s and %s; leave one of them", n, found.Path, t.Path)
		}
		found = t
	}
	if found == nil {
		return nil, f.mounted()
	}
	return found, f.guarded(n)
}

// short is what somebody wrote, for a message.
func short(s string) string {
	const most = 80
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}
