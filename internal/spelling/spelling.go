// Package spelling finds the word that somebody meant who mistyped one.
//
// It owns nothing and guarantees nothing beyond its answer: pure functions on
// texts, with nothing to recover after a crash.
package spelling

// Nearest returns the word of known that is most like got, if it is no more
// than limit slips of the hand away, and fewer than it has letters; else "". Of
// several that are equally like it, the first.
func Nearest(got string, known []string, limit int) string {
	best, least := "", limit+1
	for _, k := range known {
		if abs(len(k)-len(got)) >= least {
			continue
		}
		if d := distance(got, k); d < least && d < len(k) {
			best, least = k, d
		}
	}
	return best
}

// distance counts insertions, deletions, replacements and swaps of neighbours,
// the four slips of the hand.
func distance(a, b string) int {
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

func abs(n int) int { return max(n, -n) }
