// Package directive knows what may stand in the #SBATCH lines of a batch script. sbatch reads
// them word by word and has an idea of quotes of its own, so that what is put there is
// checked against an alphabet instead of being quoted. Everything in it is a function.
//
// Line is for what a configuration says, Parse for the lines of scripts that people have,
// with short options, quotes and several options in a line, and Merge puts together what
// several of them ask for.
package directive

import (
	"fmt"
	"strings"
)

// Value says whether a text may be the value of a directive. sbatch reads directives
// word by word, and takes quotes, backslashes and # for its own.
func Value(v string) error {
	if v == "" || len(v) > 256 {
		return fmt.Errorf("%q is empty or longer than 256 characters", v)
	}
	for _, c := range v {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.ContainsRune("_.,:;+-@%/=()[]&|*!", c):
		default:
			return fmt.Errorf("%q has %q in it, which no value of a directive may have", v, c)
		}
	}
	if v[0] == '-' {
		return fmt.Errorf("%q begins with a dash", v)
	}
	return nil
}

// Line says whether a line may be a directive: --name, or --name=value.
func Line(line string) error {
	name, value, has := strings.Cut(line, "=")
	if !strings.HasPrefix(name, "--") || !isName(name[2:]) {
		return fmt.Errorf("directive %q: write --name=value or --name, without #SBATCH", line)
	}
	if o := options[name[2:]]; o.use != use {
		return fmt.Errorf("directive %q: %s %s", line, name, o.use.why())
	}
	if has {
		if err := Value(value); err != nil {
			return fmt.Errorf("directive %q: %w", line, err)
		}
	}
	return nil
}

// isName says whether a text is the name of a long option.
func isName(s string) bool {
	return len(s) >= 2 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}
