package config

import (
	"maps"
	"slices"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// consistent looks for what only the whole can tell: values that contradict one
// another, and names of what is not there.
func (b *builder) consistent() {
	for _, name := range b.conf.ClassNames() {
		b.aliasAlone(name)
	}
	for _, name := range b.conf.ClassNames() {
		b.aliasEnds(name)
		if c := b.conf.Classes[name]; c.Enforce && c.Limit == 0 {
			key := classKey(name, "enforce")
			b.problem(b.conf.Source(key), key, "%s is true, but the class has no limit; add %s, or leave enforce out", key, classKey(name, "limit"))
		}
	}
	for _, name := range b.conf.TypeNames() {
		b.typeRuns(name)
	}
}

// aliasAlone sees to it that a class that is another name has no keys of its
// own: they would be read and ignored.
func (b *builder) aliasAlone(name string) {
	c := b.conf.Classes[name]
	if c.AliasOf == "" {
		if len(c.Backends) == 0 { // it was another name by default
			c.Backends = newClass(name).Backends
			b.conf.Classes[name] = c
		}
		return
	}
	own := false
	for _, f := range classFields {
		key := classKey(name, f.Key)
		if from := b.conf.Source(key); f.Key != keyAliasOf && from.Kind != FromDefault {
			b.problem(from, key, "%s has no effect, since %s is another name of %s; set it there, or make %s a class of its own with alias_of = \"\"", key, name, c.AliasOf, name)
			own = true
		}
	}
	if !own {
		b.conf.Classes[name] = Class{Name: name, AliasOf: c.AliasOf}
	}
}

// aliasEnds sees to it that another name leads to a class.
func (b *builder) aliasEnds(name string) {
	key := classKey(name, keyAliasOf)
	path := []string{name}
	for next := b.conf.Classes[name].AliasOf; next != ""; next = b.conf.Classes[next].AliasOf {
		path = append(path, next)
		if _, ok := b.conf.Classes[next]; !ok {
			if len(path) == 2 { // said where it is, and not for each that leads there
				b.problem(b.conf.Source(key), key, "%s is %q, which is no class; there are %s", key, next, strings.Join(b.conf.ClassNames(), ", "))
			}
			return
		}
		if slices.Index(path, next) < len(path)-1 {
			if next == name && slices.Min(path) == name { // said once for the circle
				b.problem(b.conf.Source(key), key, "%s leads back to itself: %s; let one of them be a class of its own", key, strings.Join(path, " -> "))
			}
			return
		}
	}
}

// typeRuns sees to it that a task of the type would be accepted.
func (b *builder) typeRuns(name string) {
	t, key := b.conf.Types[name], tableTypes+"."+name
	from := b.conf.Source(key)
	t.sortEnv()
	if len(t.Command) == 0 && t.Image == "" {
		if !b.complainedAbout(key + ".") {
			b.problem(from, key, "task type %s has nothing to run; add command = [\"PROGRAM\", \"ARGUMENT\"]", name)
		}
		return
	}
	if _, ok := b.conf.Classes[t.Class]; t.Class != "" && !ok {
		key := typeKey(name, "class")
		b.problem(b.conf.Source(key), key, "%s is %q, which is no class; there are %s", key, t.Class, strings.Join(b.conf.ClassNames(), ", "))
	}
	spec := task.Spec{
		ID: "x", Class: DefaultClass, Argv: t.Command, Dir: t.Dir, Image: t.Image, Env: t.Env,
		Timeout: t.Timeout, Retries: t.Retries, Resources: t.Resources,
	}
	if err := spec.Validate(); err != nil {
		b.problem(from, key, "task type %s: %s", name, err)
	}
}

// complainedAbout says whether a key with that beginning has a problem already.
func (b *builder) complainedAbout(prefix string) bool {
	return slices.ContainsFunc(b.problems, func(p Problem) bool { return strings.HasPrefix(p.Key, prefix) })
}

// finish fills in what follows from the rest.
func (b *builder) finish() Config {
	b.followAddress()
	b.conf.home = b.base.home
	b.conf.Classes = named(maps.Clone(b.conf.Classes))
	return b.conf
}
