package directive

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Option is one of sbatch's options, as it was asked for.
type Option struct {
	Name  string // the long one, without dashes
	Value string
	Has   bool // it has a value
}

// String is the option as Line takes it.
func (o Option) String() string {
	if o.Has {
		return "--" + o.Name + "=" + o.Value
	}
	return "--" + o.Name
}

// Ours says that the scheduler says it itself, so that a script need not: the name of the
// job and its output, for example.
func (o Option) Ours() bool { return options[o.Name].use == ours }

// Check says what is wrong with an option that is to go to Slurm.
func (o Option) Check() error { return Line(o.String()) }

// Parse reads what stands behind #SBATCH, as sbatch does: several options, short ones,
// quotes, a comment behind them. A ${...} is a part of the word that it stands in, with
// all that is in it; it may stand in a value only, so that whatever becomes of it is one.
func Parse(line string) ([]Option, error) {
	words, err := split(line)
	if err != nil {
		return nil, err
	}
	var out []Option
	for len(words) > 0 {
		var o []Option
		if o, words, err = next(words); err != nil {
			return nil, err
		}
		out = append(out, o...)
	}
	return out, nil
}

// next reads the options of the first word, which may be a cluster of short ones.
func next(words []string) (out []Option, rest []string, err error) {
	word, rest := words[0], words[1:]
	switch {
	case strings.HasPrefix(word, "--"):
		return nextLong(word, rest)
	case len(word) < 2 || word[0] != '-':
		return nil, nil, fmt.Errorf("%q is no option of sbatch; write --name=value", word)
	}
	for i := 1; i < len(word); i++ {
		name, known := shorts[word[i]]
		if !known {
			return nil, nil, fmt.Errorf("-%c in %q is no option of sbatch", word[i], word)
		}
		if options[name].takes != required {
			out = append(out, Option{Name: name})
			continue
		}
		value := strings.TrimPrefix(word[i+1:], "=")
		if value == "" {
			if len(rest) == 0 {
				return nil, nil, fmt.Errorf("-%c (--%s) has no value", word[i], name)
			}
			value, rest = rest[0], rest[1:]
		}
		return append(out, Option{name, value, true}), rest, nil
	}
	return out, rest, nil
}

func nextLong(word string, rest []string) ([]Option, []string, error) {
	name, value, has := strings.Cut(word[2:], "=")
	if !isName(name) {
		return nil, nil, fmt.Errorf("%q is no option of sbatch: ${...} and the like may stand in a value only", word)
	}
	o, known := options[name]
	switch {
	case known && has && o.takes == never:
		return nil, nil, fmt.Errorf("--%s takes no value", name)
	case known && !has && o.takes == required:
		if len(rest) == 0 {
			return nil, nil, fmt.Errorf("--%s has no value", name)
		}
		value, has, rest = rest[0], true, rest[1:]
	case !known && !has && len(rest) > 0 && rest[0][:1] != "-":
		return nil, nil, fmt.Errorf("--%s is not known here, so whether %q is its value is not either; write --%s=%s", name, rest[0], name, rest[0])
	}
	return []Option{{name, value, has}}, rest, nil
}

// split takes a line apart into words, as sbatch does.
func split(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	var quote byte
	inside := false // a word, which may be empty
	flush := func() {
		if inside {
			words = append(words, word.String())
		}
		word.Reset()
		inside = false
	}
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case strings.HasPrefix(line[i:], "${"):
			n := Braces(line[i:])
			if n == 0 {
				return nil, fmt.Errorf("%q has no closing brace", line[i:])
			}
			word.WriteString(line[i : i+n])
			i, inside = i+n-1, true
		case c == '\\' && i+1 < len(line):
			i++
			word.WriteByte(line[i])
			inside = true
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteByte(c)
		case c == '"' || c == '\'':
			quote, inside = c, true
		case c == '#':
			flush()
			return words, nil
		case c == ' ' || c == '\t':
			flush()
		default:
			word.WriteByte(c)
			inside = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("the quote %c is not closed", quote)
	}
	flush()
	if slices.Contains(words, "") {
		return nil, errors.New("an empty word in quotes")
	}
	return words, nil
}

// Braces is how long the ${...} is that a text begins with; 0 when it does not end.
func Braces(text string) int {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch {
		case strings.HasPrefix(text[i:], "${"):
			depth++
			i++
		case text[i] == '}':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return 0
}
