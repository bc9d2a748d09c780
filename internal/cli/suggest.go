package cli

import (
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/spelling"
)

// nearest returns the word of known that is most like got, if it is no more
// than two edits away (and fewer than it has letters); else "".
func nearest(got string, known []string) string { return spelling.Nearest(got, known, 2) }

// beginning returns the word of known that begins with got, if there is just
// one; else "".
func beginning(got string, known []string) string {
	found := ""
	for _, k := range known {
		switch {
		case len(got) < 2 || !strings.HasPrefix(k, got):
		case found != "":
			return ""
		default:
			found = k
		}
	}
	return found
}

// didYouMean is the end of a sentence that complains about a word.
func didYouMean(word, prefix string) string {
	if word == "" {
		return "; dspy-agent --help lists what there is"
	}
	return "; did you mean " + prefix + word + "?"
}
