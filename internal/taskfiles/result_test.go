package taskfiles

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMarkedLine looks for results in outputs of every shape.
func TestMarkedLine(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	noise := strings.Repeat("step 1 of many\n", 8<<10)
	long := `{"x":"` + strings.Repeat("a", 200<<10) + `"}`
	for name, tc := range map[string]struct {
		output, want, refused string
	}{
		"nothing":                  {output: ""},
		"no marker":                {output: noise},
		"alone":                    {output: ResultMarker + `{"n":1}`, want: `{"n":1}`},
		"with spaces":              {output: noise + ResultMarker + " {\"n\":1} \r\n", want: `{"n":1}`},
		"the last one":             {output: ResultMarker + "{\"n\":1}\n" + noise[:1500] + ResultMarker + "{\"n\":2}\nbye\n", want: `{"n":2}`},
		"within a line":            {output: noise + "x " + ResultMarker + "{\"n\":1}\n"},
		"cut right before it":      {output: noise + "x" + ResultMarker + strings.Repeat(" ", markerWindow-len(ResultMarker))},
		"far before the end":       {output: ResultMarker + "{\"n\":1}\n" + noise},
		"long":                     {output: noise + ResultMarker + long + "\n", want: long},
		"long, more behind it":     {output: noise + ResultMarker + long + "\nbye\n", want: long},
		"a long line that is none": {output: noise + long + "\n"},
		"too long":                 {output: noise + ResultMarker + `{"x":"` + strings.Repeat("a", limit) + "\"}\n", refused: "longer than the 1048576 bytes"},
		"a list":                   {output: ResultMarker + "[1]\n", refused: "not a JSON object on one line"},
		"nothing behind it":        {output: ResultMarker + "\n", refused: "not a JSON object on one line"},
		"half":                     {output: ResultMarker + "{\"n\":\n1}\n", refused: "not a JSON object on one line"},
	} {
		path := filepath.Join(t.TempDir(), "out")
		if err := os.WriteFile(path, []byte(tc.output), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := markedLine(path, limit)
		if tc.refused != "" {
			if err == nil {
				t.Errorf("%s: not refused", name)
			} else if said := err.Error(); !strings.Contains(said, tc.refused) {
				t.Errorf("%s: refused with %q", name, said)
			}
			continue
		}
		if err != nil || string(got) != tc.want {
			t.Errorf("%s: %.80q (%d bytes), %v", name, got, len(got), err)
		}
	}
}
