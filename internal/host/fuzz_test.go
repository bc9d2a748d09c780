package host

import (
	"fmt"
	"strings"
	"testing"
)

// FuzzStat: a process may call itself what it likes; that does not change what
// the kernel says of it. What is no line of the kernel's is refused.
func FuzzStat(f *testing.F) {
	f.Add("sh", byte('S'), 1, uint64(99), "")
	f.Add(") Z 1 1 1 (", byte('R'), 4194304, uint64(1)<<63, "1 (sh) S")
	f.Add("a\nb) ", byte('Z'), 2, uint64(0), "1 (sh) S 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 x")
	f.Add("", byte('X'), 0, uint64(7), ")")
	f.Fuzz(func(t *testing.T, name string, state byte, parent int, start uint64, other string) {
		if state < 'A' || state > 'z' || parent < 0 || strings.ContainsRune(name, 0) {
			return // the kernel writes none of these
		}
		line := fmt.Sprintf("123 (%s) %c %d 5 6 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 %d 0 0", name, state, parent, start)
		st, err := parseStat([]byte(line))
		if err != nil || st.State != state || st.Parent != parent || st.Group != 5 || st.Session != 6 || st.Start != start || st.Exit != -1 {
			t.Fatalf("%q is read as %+v, %v", line, st, err)
		}
		if st, err := parseStat([]byte(other)); err != nil && st != (Stat{}) {
			t.Fatalf("%q is refused, and %+v of it is left", other, st)
		}
	})
}
