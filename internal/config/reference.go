package config

import (
	"fmt"
	"slices"
	"strings"
)

// Reference is a configuration file with every key and its default, each put out
// of action by a "#" right before it, and a word about it. Headers of tables
// stand as they are, so that a key takes effect where it stands when its "#" is
// removed. A file with it as it is holds no setting.
func Reference() string {
	var b strings.Builder
	b.WriteString("# Configuration of dspy-agent. Keys and their defaults; remove the # before a key to set it.\n" +
		"# dspy-agent config check says whether all is well, config show what holds and why. A running\n" +
		"# daemon reads this file when it is started again.\n")
	for _, section := range sections {
		b.WriteString("\n")
		comment(&b, section.about)
		switch section.name {
		case tableClasses:
			referClasses(&b)
		case tableTypes:
			referTypes(&b)
		case tableServices:
			referServices(&b)
		default:
			referSection(&b, section.name)
		}
	}
	return b.String()
}

func referSection(b *strings.Builder, section string) {
	if section != "" {
		fmt.Fprintf(b, "[%s]\n", section)
	}
	d := Default("")
	for _, f := range configFields {
		table, key := splitKey(f.Key)
		if table != section || f.Outside != "" {
			continue
		}
		about := upperFirst(f.Meaning) + "."
		if len(f.Env) > 0 {
			about += " " + strings.Join(f.Env, " or ") + " wins over it."
		}
		if f.Zero != "" {
			about += " " + f.zeroText() + "."
		}
		comment(b, about)
		fmt.Fprintf(b, "#%s = %s\n", key, f.literal(&d))
	}
}

func referClasses(b *strings.Builder) {
	for _, f := range classFields {
		comment(b, f.Key+": "+f.about())
	}
	for _, name := range builtinClasses {
		c := Default("").Classes[name]
		fmt.Fprintf(b, "\n[%s.%s]\n", tableClasses, name)
		for _, f := range classFields {
			if (c.AliasOf != "") == (f.Key == keyAliasOf) {
				fmt.Fprintf(b, "#%s = %s\n", f.Key, f.literal(&c))
			}
		}
	}
}

func referTypes(b *strings.Builder) {
	keys := make([]string, 0, len(typeFields)+1)
	for _, f := range typeFields {
		comment(b, f.Key+": "+f.about())
		keys = append(keys, f.Key+" = "+f.Example)
	}
	comment(b, envSetting.Key+": "+envSetting.about())
	keys = append(keys, envSetting.Key+" = "+envSetting.Example)
	b.WriteString("#\n# There are none by default. One with every key would be:\n#\n")
	fmt.Fprintf(b, "#   [%s.rl_sweep]\n", tableTypes)
	for _, k := range keys {
		fmt.Fprintf(b, "#   %s\n", k)
	}
}

func referServices(b *strings.Builder) {
	var keys []string
	for _, s := range serviceSettings() {
		comment(b, s.Key+": "+s.about())
		keys = append(keys, s.Key+" = "+s.Example)
	}
	b.WriteString("#\n# Nothing is said about any by default. Each key, with an example of its own:\n#\n")
	fmt.Fprintf(b, "#   [%s.NAME]\n", tableServices)
	for _, k := range keys {
		fmt.Fprintf(b, "#   %s\n", k)
	}
}

// about is what the key means, in one text.
func (s Setting) about() string {
	if s.Zero == "" {
		return s.Meaning
	}
	return s.Meaning + "; " + s.zeroText()
}

// zeroText says what the zero of the type stands for.
func (s Setting) zeroText() string {
	zero := `""`
	switch s.Type {
	case "duration":
		zero = `"0s"`
	case "size":
		zero = `"0B"`
	case "number", "whole number":
		zero = "0"
	case "address":
		zero = quote(none)
	}
	if strings.HasPrefix(s.Type, "list") {
		zero = "[]"
	}
	if strings.HasPrefix(s.Type, "table") {
		zero = "{}"
	}
	return zero + " = " + s.Zero
}

// comment writes a text as comment lines of readable width.
func comment(b *strings.Builder, text string) {
	const width = 100
	line := "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > width && line != "#" {
			b.WriteString(line + "\n")
			line = "#"
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// Keys lists the keys that a file can have, for completion; those of classes for
// the classes that are there.
func (c Config) Keys() []string {
	var out []string
	for _, v := range c.Values() {
		out = append(out, v.Key)
	}
	slices.Sort(out)
	return out
}
