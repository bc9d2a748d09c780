package shellword

import (
	"os/exec"
	"testing"
)

func TestWords(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "''", "plain": "plain", "/a-b_c.d:e,f+g@h%i=j": "/a-b_c.d:e,f+g@h%i=j", "a b": "'a b'", "it's": `'it'\''s'`, "~": "'~'", "$x": "'$x'", "é": "'é'",
	} {
		if got := Quote(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	if got, want := Join([]string{"echo", "", "a b"}), "echo '' 'a b'"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// FuzzWords: a shell gets back what was written.
func FuzzWords(f *testing.F) {
	for _, s := range []string{"", "a", "'", "a b/c'd", `"b$(id)`, "x%j\\y", "new\nline", "-n", "~", "#", "*", "{a,b}", "!!"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, c := range []byte(s) {
			if c == 0 {
				t.Skip("no word has a NUL in it")
			}
		}
		for _, word := range []string{Quote(s), Always(s)} {
			got, err := exec.CommandContext(t.Context(), "sh", "-c", "printf '<%s>' "+word).Output()
			if err != nil || string(got) != "<"+s+">" {
				t.Errorf("%q as %s became %q, %v", s, word, got, err)
			}
		}
	})
}
