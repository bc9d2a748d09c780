package config

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// document is a TOML file taken apart into single values, each with its line.
// Whether a table was written as [a.b], as a.b.c = or as an inline table makes
// no difference here.
type document struct {
	tables []place // headers and empty inline tables
	leaves []leaf
	// problems are what is wrong with the file as TOML.
	problems []Problem

	file   string
	starts []int // offset of each line
	parser unstable.Parser
	list   string         // the one list of tables that there may be; "" = none
	items  int            // of that list, so far
	table  place          // the header that the next keys stand below
	known  bool           // false below a header that has been complained about
	seen   map[string]int // line of each key and header
	count  int            // of headers, keys, and items of lists
}

// place is a path of keys and where it stands.
type place struct {
	path []string
	item int // of the list of tables, from 1; 0 = it is in none
	line int
}

// leaf is a key with its value.
type leaf struct {
	place
	val value
}

// parse takes the file apart. It goes on after what it can go on after, so that
// as much as possible is reported at once. list is the one list of tables that there may
// be, at the top.
func parse(file string, data []byte, list string) *document {
	d := &document{file: file, list: list, known: true, seen: map[string]int{}}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // some editors write a byte order mark
	d.starts = lineStarts(data)
	if at := invalidUTF8(data); at >= 0 {
		d.problem(d.line(at), "", "this is not UTF-8 text; save the file as UTF-8")
		return d
	}
	d.walk(data)
	if len(d.problems) > 0 {
		return d
	}
	// The parser takes the text apart and leaves some rules of TOML to the decoder.
	var all map[string]any
	if err := toml.Unmarshal(data, &all); err != nil {
		line := 0
		if e, ok := errors.AsType[*toml.DecodeError](err); ok {
			line, _ = e.Position()
		}
		d.problem(line, "", "this is not TOML: %s", strings.TrimPrefix(err.Error(), "toml: "))
	}
	return d
}

// walk goes through the file, up to where it is no TOML any more.
func (d *document) walk(data []byte) {
	d.parser.Reset(data)
	for len(d.problems) < maxProblems && d.parser.NextExpression() {
		line := d.expression(d.parser.Expression())
		if d.count > maxCount {
			d.problem(line, "", "there are more than %d keys and values up to here; a configuration has not", maxCount)
			return
		}
	}
	if err, ok := errors.AsType[*unstable.ParserError](d.parser.Error()); ok {
		d.syntax(err)
	}
}

// expression takes in a header or a key with its value, and returns its line.
func (d *document) expression(e *unstable.Node) int {
	if e.Kind == unstable.KeyValue {
		if d.known {
			d.keyValue(e, d.table)
		}
		return d.line(int(e.Raw.Offset))
	}
	d.count++
	p := d.key(e.Key(), place{}) // comments are not kept, so it is a header
	if d.list != "" && p.path[0] == d.list {
		if e.Kind == unstable.ArrayTable && len(p.path) == 1 {
			d.items++
		}
		p.item = d.items
	}
	d.table, d.known = p, d.shallow(p)
	switch {
	case !d.known:
	case e.Kind == unstable.ArrayTable && (p.item == 0 || len(p.path) > 1):
		d.known = false
		d.problem(p.line, keyText(p.path), "[[%s]] is a list of tables, which no setting is; write [%s]", keyText(p.path), singular(p.path))
	case d.once("["+keyText(p.path)+"]", p):
		d.tables = append(d.tables, p)
	}
	return p.line
}

// singular is the table that is meant where a list of them was written.
func singular(path []string) string {
	if path[0] == tableOverrides { // as the file of ENV_MANAGER_CONFIG has it
		return tableServices + ".NAME"
	}
	return keyText(path)
}

// syntax complains about what is no TOML.
func (d *document) syntax(err *unstable.ParserError) {
	line, hint := len(d.starts), ""
	if len(err.Highlight) > 0 {
		line = d.line(int(d.parser.Range(err.Highlight).Offset))
		if c := err.Highlight[0]; c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '/' || c == '~' {
			hint = "; texts stand in quotes, as in key = \"text\""
		}
	}
	d.problem(line, "", "this is not TOML: %s%s", err.Message, hint)
}

// keyValue takes in one "key = value", an inline table key by key.
func (d *document) keyValue(n *unstable.Node, table place) {
	d.count++
	p := d.key(n.Key(), table)
	if !d.shallow(p) {
		return
	}
	v := n.Value()
	if v.Kind != unstable.InlineTable {
		switch {
		case !d.once(keyText(p.path), p):
		case d.inlineList(v, p):
		default:
			d.leaves = append(d.leaves, leaf{p, d.value(v)})
		}
		return
	}
	if !d.once("["+keyText(p.path)+"]", p) {
		return
	}
	d.tables = append(d.tables, p)
	for it := v.Children(); it.Next(); {
		d.keyValue(it.Node(), p)
	}
}

// inlineList takes in the list of tables where it is written as key = [{...}, {...}], and
// says whether this is it.
func (d *document) inlineList(v *unstable.Node, p place) bool {
	if v.Kind != unstable.Array || d.list == "" || len(p.path) != 1 || p.path[0] != d.list {
		return false
	}
	for it := v.Children(); it.Next(); {
		if it.Node().Kind != unstable.InlineTable {
			return false // the value is complained about where it is read
		}
	}
	for it := v.Children(); it.Next(); {
		d.count++
		d.items++
		p.item = d.items
		d.tables = append(d.tables, p)
		for kv := it.Node().Children(); kv.Next(); {
			d.keyValue(kv.Node(), p)
		}
	}
	return true
}

// maxCount is more keys and values than any configuration has; the decoder needs
// the square of their number.
const maxCount = 10_000

// maxDepth is more than any key has; without a bound, tables within tables would
// cost the square of their depth.
const maxDepth = 8

// shallow says whether a path can be that of a key, and complains if not.
func (d *document) shallow(p place) bool {
	if len(p.path) <= maxDepth {
		return true
	}
	top := keyText(p.path[:1])
	d.problem(p.line, top, "there are tables within tables below %s that no setting has", top)
	return false
}

// once says whether a key or a header is there for the first time, and complains
// if it is not.
func (d *document) once(name string, p place) bool {
	seen := strconv.Itoa(p.item) + " " + name
	if first, again := d.seen[seen]; again {
		d.problem(p.line, keyText(p.path), "%s is given twice, in line %d too; keep one of them", name, first)
		return false
	}
	d.seen[seen] = p.line
	return true
}

func (d *document) key(it unstable.Iterator, table place) place {
	p := place{path: slices.Clone(table.path), item: table.item}
	for it.Next() {
		n := it.Node()
		if p.line == 0 {
			p.line = d.line(int(n.Raw.Offset))
		}
		p.path = append(p.path, string(n.Data))
	}
	return p
}

func (d *document) value(n *unstable.Node) value {
	v := value{kind: kindOther, text: string(n.Data)}
	switch n.Kind {
	case unstable.String:
		v.kind = kindText
	case unstable.Bool:
		v.kind, v.boolean = kindBoolean, v.text == "true"
	case unstable.Integer:
		if i, err := strconv.ParseInt(v.text, 0, 64); err == nil {
			v.kind, v.integer = kindInteger, i
		}
	case unstable.Float:
		if f, err := strconv.ParseFloat(strings.ReplaceAll(v.text, "_", ""), 64); err == nil && !math.IsNaN(f) {
			v.kind, v.number = kindNumber, f
		}
	case unstable.Array:
		v.kind = kindList
		for it := n.Children(); it.Next(); {
			d.count++
			v.list = append(v.list, d.value(it.Node()))
		}
	case unstable.InlineTable: // within a list, which no setting has
		for it := n.Children(); it.Next(); {
			d.count++
			d.value(it.Node().Value())
		}
	default: // dates
	}
	return v
}

func (d *document) problem(line int, key, format string, args ...any) {
	d.problems = append(d.problems, Problem{File: d.file, Line: line, Key: key, Text: fmt.Sprintf(format, args...)})
}

// line returns the number of the line that an offset is in, from 1.
func (d *document) line(offset int) int {
	i, found := slices.BinarySearch(d.starts, offset)
	if found {
		return i + 1
	}
	return i
}

func lineStarts(data []byte) []int {
	starts := []int{0}
	for i, b := range data {
		if b == '\n' && i+1 < len(data) {
			starts = append(starts, i+1)
		}
	}
	return starts
}

// invalidUTF8 returns the offset of the first byte that is no UTF-8, or -1.
func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// keyText is a path as a person would write it.
func keyText(path []string) string {
	parts := make([]string, len(path))
	for i, p := range path {
		if parts[i] = p; !bareKey(p) {
			parts[i] = quote(p)
		}
	}
	return strings.Join(parts, ".")
}

func bareKey(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool {
		plain := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-'
		return !plain
	}) < 0
}
