package payload

import "regexp"

// How str() of a Python list, tuple or dict of texts begins and ends. The test
// command of a shell line, "[ -f x ]", has a space behind its bracket, and a
// subshell, "('a' b)", no comma between quotes.
var (
	reprList  = regexp.MustCompile(`(?s)^\s*\[[ubrf]?['"].*\]\s*$`)
	reprTuple = regexp.MustCompile(`(?s)^\s*\([ubrf]?['"].*['"]\s*,.*\)\s*$`)
	reprDict  = regexp.MustCompile(`(?s)^\s*\{[ubrf]?['"].*['"]\s*:.*\}\s*$`)
)

// pythonRepr says whether a text looks like a Python value that was turned into
// text with str() instead of json.dumps(). A shell would take it apart in ways
// that nobody meant.
func pythonRepr(s string) bool {
	return reprList.MatchString(s) || reprTuple.MatchString(s) || reprDict.MatchString(s)
}

func refuseRepr(key string) error {
	return refuse(key, "looks like a Python value turned into text with str()", "send json.dumps(value) instead")
}
