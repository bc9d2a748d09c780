//go:build linux && cgo && (amd64 || arm64)

package nvml

import (
	_ "embed"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/gputest"
)

//go:embed symbols.h
var symbolsHeader string

// symbols are the functions that dispatch.c forwards.
func symbols(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, m := range regexp.MustCompile(`(?m)^FORWARD\((\w+)\)$`).FindAllStringSubmatch(symbolsHeader, -1) {
		out = append(out, m[1])
	}
	if len(out) == 0 {
		t.Fatal("symbols.h has no FORWARD line")
	}
	return out
}

// own is written out in dispatch.c, because it does not return a code.
const own = "nvmlErrorString"

// TestSymbols holds the list of what is forwarded against what go-nvml calls.
// UPDATE=1 writes it.
func TestSymbols(t *testing.T) {
	text, err := os.ReadFile(gputest.Bindings(t))
	if err != nil {
		t.Fatal(err)
	}
	var called []string
	for _, m := range regexp.MustCompile(`\bC\.(nvml[A-Z]\w*)\(`).FindAllStringSubmatch(string(text), -1) {
		if m[1] != own {
			called = append(called, m[1])
		}
	}
	slices.Sort(called)
	called = slices.Compact(called)
	var b strings.Builder
	b.WriteString("/* Every function of NVML that go-nvml calls. Written by: UPDATE=1 go test -run TestSymbols ./gpu/nvml */\n")
	for _, name := range called {
		fmt.Fprintf(&b, "FORWARD(%s)\n", name)
	}
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile("symbols.h", []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if b.String() != symbolsHeader {
		t.Error("symbols.h is not what go-nvml calls: UPDATE=1 go test -run TestSymbols ./gpu/nvml")
	}
}

// TestPrototypes checks what dispatch.c relies on: every function that it
// forwards takes at most seven arguments, each of which fits a general register.
func TestPrototypes(t *testing.T) {
	text, err := os.ReadFile(gputest.Header(t))
	if err != nil {
		t.Fatal(err)
	}
	header := regexp.MustCompile(`(?s)/\*.*?\*/|//[^\n]*`).ReplaceAllString(string(text), "")
	forwarded, kinds := symbols(t), fitting(header)
	seen := 0
	for _, m := range regexp.MustCompile(`(?s)(\w+)\s+DECLDIR\s+(nvml\w+)\s*\(([^)]*)\)`).FindAllStringSubmatch(header, -1) {
		result, name, args := m[1], m[2], strings.Split(m[3], ",")
		if !slices.Contains(forwarded, name) {
			continue
		}
		seen++
		if result != "nvmlReturn_t" {
			t.Errorf("%s returns %s", name, result)
		}
		if len(args) > 7 {
			t.Errorf("%s takes %d arguments", name, len(args))
		}
		for _, arg := range args {
			if why := unfit(kinds, strings.TrimSpace(arg)); why != "" {
				t.Errorf("%s: %q: %s", name, strings.TrimSpace(arg), why)
			}
		}
	}
	// Some old names are only macros or absent from the header; go-nvml declares those itself.
	if seen < len(forwarded)*9/10 {
		t.Errorf("only %d of %d functions were found in the header", seen, len(forwarded))
	}
}

// fitting are the header's own types that go through a general register: enums,
// other names of integers, and structs of one pointer.
func fitting(header string) map[string]bool {
	out := map[string]bool{}
	for _, pattern := range []string{
		`typedef\s+enum\s+\w+\s*\{[^}]*\}\s*(\w+)\s*;`,
		`typedef\s+(?:unsigned\s+)?(?:int|long|char)[\w\s]*\s(\w+)\s*;`,
		`typedef\s+struct\s*\w*\s*\{\s*struct\s+\w+\s*\*\s*\w+\s*;\s*\}\s*(\w+)\s*;`,
	} {
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(header, -1) {
			out[m[1]] = true
		}
	}
	return out
}

// unfit says why an argument does not go through a general register, or "".
func unfit(kinds map[string]bool, arg string) string {
	words := strings.Fields(strings.NewReplacer("const", "", "*", " * ").Replace(arg))
	switch {
	case len(words) == 0 || words[0] == "void" && len(words) == 1, slices.Contains(words, "*"), strings.Contains(arg, "["):
		return ""
	case slices.Contains(words, "float") || slices.Contains(words, "double"):
		return "a number with a point goes elsewhere"
	case slices.ContainsFunc(words, func(w string) bool { return w == "int" || w == "unsigned" || w == "long" || w == "char" }):
		return ""
	}
	if kinds[words[0]] {
		return ""
	}
	return "neither an integer, nor an enum, nor a handle"
}
