package config

import (
	"slices"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/spelling"
)

// isTable says whether the file has a table of that name at the top.
func isTable(name string) bool { return slices.Contains(tableNames(), name) }

func tableNames() []string {
	var out []string
	for _, s := range sections[1:] {
		out = append(out, s.name)
	}
	return out
}

// keysBelow lists the keys of the file that stand right below a path of tables.
func keysBelow(table []string) []string {
	var out []string
	switch {
	case len(table) == 2 && table[0] == tableClasses:
		for _, f := range classFields {
			out = append(out, f.Key)
		}
	case len(table) == 2 && table[0] == tableTypes:
		for _, f := range typeFields {
			out = append(out, f.Key)
		}
		out = append(out, keyEnv)
	case len(table) == 2 && table[0] == tableServices:
		return serviceKeys()
	default:
		for _, f := range configFields {
			section, key := splitKey(f.Key)
			if section == strings.Join(table, ".") && f.Outside == "" {
				out = append(out, key)
			}
		}
	}
	return out
}

// splitKey parts a key of configFields from its table.
func splitKey(full string) (table, key string) {
	if table, key, ok := strings.Cut(full, "."); ok {
		return table, key
	}
	return "", full
}

func (b *builder) unknownKey(p place, from Source) {
	full, last := keyText(p.path), p.path[len(p.path)-1]
	table := p.path[:len(p.path)-1]
	siblings := keysBelow(table)
	switch meant, elsewhere := spelling.Nearest(last, siblings, 2), sameName(last); {
	case meant != "":
		b.problem(from, full, "there is no key %s; did you mean %s?", full, keyText(append(slices.Clone(table), meant)))
	case len(elsewhere) > 0:
		if !strings.Contains(elsewhere[0], ".") {
			elsewhere[0] += ", which stands above the first [table]"
			if len(elsewhere) > 1 {
				elsewhere[0] += ","
			}
		}
		b.problem(from, full, "there is no key %s; did you mean %s?", full, strings.Join(elsewhere, " or "))
	case len(siblings) > 0 && len(table) > 0:
		b.problem(from, full, "there is no key %s; [%s] has %s", full, keyText(table), strings.Join(siblings, ", "))
	case len(table) == 0:
		b.problem(from, full, "there is no key %s; above the first [table] there are %s", full, strings.Join(siblings, ", "))
	default:
		b.unknownTable(place{path: table, line: p.line}, from)
	}
}

// sameName lists the keys of the file that are called like that in whatever
// table.
func sameName(last string) []string {
	var out []string
	for _, f := range configFields {
		if _, key := splitKey(f.Key); key == last && f.Outside == "" {
			out = append(out, f.Key)
		}
	}
	return out
}

func (b *builder) unknownTable(p place, from Source) {
	name := keyText(p.path)
	said := slices.ContainsFunc(b.problems, func(p Problem) bool { return p.Key == "["+name+"]" })
	later := slices.ContainsFunc(configFields, func(f field[Config]) bool { return strings.HasPrefix(f.Key, name+".") })
	if said || later { // once is enough; a table of a later release is complained about key by key
		return
	}
	meant := spelling.Nearest(p.path[0], tableNames(), 2)
	switch {
	case meant != "" && meant != p.path[0]:
		b.problem(from, "["+name+"]", "there is no table [%s]; did you mean [%s]?", name, keyText(append([]string{meant}, p.path[1:]...)))
	case len(p.path) == 1 && len(sameName(p.path[0])) > 0:
		b.problem(from, "["+name+"]", "there is no table [%s]; it is a key: write %s = ...", name, sameName(p.path[0])[0])
	default:
		b.problem(from, "["+name+"]", "there is no table [%s]; there are [%s]", name, strings.Join(tableNames(), "], ["))
	}
}
