package cli

import "strings"

// nearest returns the word of known that is most like got, if it is no more
// than limit edits away (and fewer than it has letters); else "".
func nearest(got string, known []string, limit int) string {
	best, bestDist := "", limit+1
	for _, k := range known {
		if d := editDistance(got, k); d < bestDist && d < len(k) {
			best, bestDist = k, d
		}
	}
	return best
}

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

// editDistance counts insertions, deletions, replacements and swaps of
// neighbours, the four slips of the hand.
func editDistance(a, b string) int {
	prev2, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(b)]
}
