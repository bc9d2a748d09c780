package config

import (
	"fmt"
	"slices"
	"strings"
)

// builder puts a configuration together, source by source, the weakest first,
// and collects what is wrong on the way.
type builder struct {
	conf     Config
	base     base
	problems []Problem
}

func newBuilder(b base) *builder {
	c := Default(b.workspace)
	c.Types = map[string]TaskType{}
	c.Services = map[string]Service{}
	c.sources = map[string]Source{}
	return &builder{conf: c, base: b}
}

func (b *builder) problem(at Source, key, format string, args ...any) {
	p := Problem{Key: key, Text: fmt.Sprintf(format, args...)}
	if at.Kind == FromFile {
		p.File, p.Line = at.Name, at.Line
	}
	if !slices.Contains(b.problems, p) { // a variable may be that of two settings
		b.problems = append(b.problems, p)
	}
}

// assign reads a value into a record, and notes where it came from; name is what
// the setting is called where it was given.
func assign[R any](b *builder, f field[R], r *R, key, name string, v value, from Source) {
	against := b.base
	against.file = from.Kind == FromFile
	if complaint := f.read(r, v, against); complaint != "" {
		b.problem(from, name, "%s is %s; %s", name, v.shown(), complaint)
		return
	}
	b.conf.sources[key] = from
}

// file takes in the configuration file.
func (b *builder) file(path string, data []byte) {
	d := parse(path, data, "")
	b.problems = append(b.problems, d.problems...)
	for _, t := range d.tables {
		if len(b.problems) >= maxProblems {
			break
		}
		b.table(t, Source{Kind: FromFile, Name: path, Line: t.line})
	}
	for _, l := range d.leaves {
		if b.full(path, l.line) {
			break
		}
		b.leaf(l, Source{Kind: FromFile, Name: path, Line: l.line})
	}
}

// full says whether there are more problems than people want to read, and where the
// reader gave up.
func (b *builder) full(path string, line int) bool {
	const more = "and maybe more; this is where the reader gave up"
	if len(b.problems) < maxProblems {
		return false
	}
	if !slices.ContainsFunc(b.problems, func(p Problem) bool { return p.Text == more }) {
		b.problems = append(b.problems, Problem{File: path, Line: line, Text: more})
	}
	return true
}

// table takes in a header, which may be all that is said about a class.
func (b *builder) table(p place, from Source) {
	switch {
	case len(p.path) == 1 && isTable(p.path[0]):
	case len(p.path) == 2 && p.path[0] == tableClasses:
		b.class(p.path[1], from)
	case len(p.path) == 2 && p.path[0] == tableTypes:
		b.taskType(p.path[1], from)
	case len(p.path) == 3 && p.path[0] == tableTypes && p.path[2] == keyEnv:
		b.taskType(p.path[1], from)
	case len(p.path) == 2 && p.path[0] == tableServices, len(p.path) == 3 && p.path[0] == tableServices && p.path[2] == keyEnv:
		b.service(p.path[1], from)
	default:
		b.unknownTable(p, from)
	}
}

func (b *builder) leaf(l leaf, from Source) {
	switch {
	case len(l.path) == 3 && l.path[0] == tableClasses:
		b.classKey(l, from)
	case l.path[0] == tableTypes && (len(l.path) == 3 || len(l.path) == 4 && l.path[2] == keyEnv):
		b.typeKey(l, from)
	case l.path[0] == tableServices && (len(l.path) == 3 || len(l.path) == 4 && l.path[2] == keyEnv):
		b.serviceKey(l, from)
	default:
		b.configKey(l, from)
	}
}

func (b *builder) configKey(l leaf, from Source) {
	key := keyText(l.path)
	i := slices.IndexFunc(configFields, func(f field[Config]) bool { return f.Key == key })
	switch {
	case i < 0 && isTable(key):
		b.problem(from, key, "%s is %s; it is a table: write [%s], and its keys below", key, l.val.shown(), key)
	case i < 0:
		b.unknownKey(l.place, from)
	case configFields[i].Outside != "":
		b.problem(from, key, "%s cannot be set in the file: %s", key, configFields[i].Outside)
	default:
		assign(b, configFields[i], &b.conf, key, key, l.val, from)
	}
}

// class returns whether a name is good for a class, and makes the class if it is
// a new one.
func (b *builder) class(name string, from Source) bool {
	if _, ok := b.conf.Classes[name]; ok {
		return true
	}
	if !className.MatchString(name) {
		b.badName(from, tableClasses+"."+quote(name), "class %s: %s", quote(name), classNameRule)
		return false
	}
	b.conf.Classes[name] = newClass(name)
	b.conf.sources[tableClasses+"."+name] = from
	return true
}

// badName complains about a name, once for all keys below it.
func (b *builder) badName(from Source, key, format string, args ...any) {
	if !slices.ContainsFunc(b.problems, func(p Problem) bool { return p.Key == key }) {
		b.problem(from, key, format, args...)
	}
}

func (b *builder) classKey(l leaf, from Source) {
	name, key := l.path[1], l.path[2]
	i := slices.IndexFunc(classFields, func(f field[Class]) bool { return f.Key == key })
	if i < 0 {
		b.unknownKey(l.place, from)
		return
	}
	if !b.class(name, from) {
		return
	}
	c := b.conf.Classes[name]
	full := classKey(name, key)
	assign(b, classFields[i], &c, full, full, l.val, from)
	b.conf.Classes[name] = c
}

// taskType returns whether a name is good for a task type, and makes the type if
// it is not there.
func (b *builder) taskType(name string, from Source) bool {
	if _, ok := b.conf.Types[name]; ok {
		return true
	}
	if !typeName.MatchString(name) {
		b.badName(from, tableTypes+"."+quote(name), "task type %s: %s", quote(name), typeNameRule)
		return false
	}
	b.conf.Types[name] = TaskType{Name: name}
	b.conf.sources[tableTypes+"."+name] = from
	return true
}

func (b *builder) typeKey(l leaf, from Source) {
	name, key, full := l.path[1], l.path[2], keyText(l.path)
	i := slices.IndexFunc(typeFields, func(f field[TaskType]) bool { return f.Key == key })
	if i < 0 && key != keyEnv {
		b.unknownKey(l.place, from)
		return
	}
	if !b.taskType(name, from) {
		return
	}
	t := b.conf.Types[name]
	switch {
	case i >= 0:
		assign(b, typeFields[i], &t, full, full, l.val, from)
	case len(l.path) == 3:
		b.problem(from, full, "%s is %s; it is a table: write [%s] and NAME = \"VALUE\" below", full, l.val.shown(), full)
	case l.path[3] == "" || strings.ContainsAny(l.path[3], "=\x00"):
		b.problem(from, full, "%s: %s is no name of a variable", full, quote(l.path[3]))
	case l.val.kind != kindText:
		b.problem(from, full, "%s is %s; write a text, in quotes, since a variable has no other type", full, l.val.shown())
	default:
		t.Env = append(t.Env, l.path[3]+"="+l.val.text) // the document has no key twice
		b.conf.sources[full] = from
	}
	b.conf.Types[name] = t
}

// environment takes in the variables.
func (b *builder) environment(lookup func(string) string) {
	for _, f := range configFields {
		b.variables(f, lookup)
	}
}

// variables takes in those of one setting.
func (b *builder) variables(f field[Config], lookup func(string) string) {
	for _, name := range f.Env {
		if v := lookup(name); v != "" && f.Key != keyConfig {
			assign(b, f, &b.conf, f.Key, name, value{text: v}, Source{Kind: FromEnvironment, Name: name})
			break
		}
	}
}

// flags takes in the flags of the settings, by flag name.
func (b *builder) flags(given map[string]string) {
	for _, f := range configFields {
		if v := given[f.Flag]; v != "" && f.Flag != "" {
			assign(b, f, &b.conf, f.Key, "--"+f.Flag, value{text: v}, Source{Kind: FromFlag, Name: f.Flag})
		}
	}
}
