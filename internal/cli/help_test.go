package cli

import (
	"slices"
	"strings"
	"testing"
)

// TestHelpFitsTheScreen: every help has lines that a terminal of the usual width shows
// in one piece, and says what its flags are.
func TestHelpFitsTheScreen(t *testing.T) {
	pages := [][]string{{"--help"}}
	for _, c := range newSession(Env{}).app().Commands {
		if !c.Hidden {
			pages = append(pages, []string{"help", c.Name}, []string{c.Name, "--help"})
		}
	}
	for _, c := range newSession(Env{}).app().Commands {
		for _, action := range actionNames(c.Name) {
			pages = append(pages, []string{"help", c.Name, action}, []string{c.Name, action, "--help"}, []string{c.Name, "-h", action})
		}
	}
	for _, args := range pages {
		words := slices.DeleteFunc(slices.Clone(args), func(w string) bool { return w == "help" || strings.HasPrefix(w, "-") })
		title := strings.Join(append([]string{Program}, words...), " ") + " - "
		code, out, stderr := dspyAgent(t, testEnv(t), args...)
		if len(words) > 0 && !strings.HasPrefix(out, title) {
			t.Errorf("%v: this is the help of something else: %.60q", args, out)
		}
		if code != exitDone || stderr != "" || !strings.Contains(out, "--help, -h") {
			t.Errorf("%v: exit %d, %q and %q", args, code, out, stderr)
		}
		for line := range strings.Lines(out) {
			if line = strings.TrimSuffix(line, "\n"); len(line) > helpWidth {
				t.Errorf("%v: this line has %d columns: %s", args, len(line), line)
			}
		}
	}
}

// TestLayOut: what is one paragraph flows, and what has a column stays below it.
func TestLayOut(t *testing.T) {
	const text = "One sentence that goes on for a while, longer than\na line of the source.\n\n" +
		"show [KEY]  what holds, and where each value came from; KEY may be a table, as capacity is\n" +
		"init        write a file"
	const want = `   One sentence that goes on for a while, longer than a line of the source.

   show [KEY]  what holds, and where each value came from; KEY may be a table,
               as capacity is
   init        write a file
`
	if got := layOut(text); got != want {
		t.Errorf("laid out as\n%s\nwant\n%s", got, want)
	}
}
