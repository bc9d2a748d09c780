package access_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSecurityDocNamesTests keeps docs/security.md honest: each threat has a test
// as evidence, and each test that is named is there.
func TestSecurityDocNamesTests(t *testing.T) {
	root := filepath.Join("..", "..")
	doc, err := os.ReadFile(filepath.Join(root, "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`([a-z0-9/]+) ((?:Test|Fuzz)[A-Za-z]+)`").FindAllStringSubmatch(string(doc), -1)
	if len(named) < 20 {
		t.Fatalf("docs/security.md names %d tests: this test looks for the wrong thing", len(named))
	}
	_, threats, found := strings.Cut(string(doc), "| shown by |\n|---|---|---|---|\n")
	if !found {
		t.Fatal("docs/security.md has no table of threats")
	}
	for line := range strings.Lines(threats) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		cells := strings.Split(line, "|")
		if !strings.Contains(cells[len(cells)-2], "`internal/") {
			t.Errorf("docs/security.md names no test here: %s", line)
		}
	}
	if count := strings.Count(string(doc), " Test") + strings.Count(string(doc), " Fuzz"); count != len(named) {
		t.Errorf("docs/security.md has %d words that begin like tests, of which %d can be read as `FOLDER TestNAME`", count, len(named))
	}
	for _, n := range named {
		files, err := filepath.Glob(filepath.Join(root, n[1], "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			found = found || strings.Contains(string(text), "\nfunc "+n[2]+"(")
		}
		if !found {
			t.Errorf("docs/security.md names %s of %s, which is not there", n[2], n[1])
		}
	}
}
