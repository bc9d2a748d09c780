package workers

import "testing"

// TestLoad: how many worker jobs are submitted, and when those that wait are taken back.
func TestLoad(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		load  Load
		more  int
		fewer bool
	}{
		"nothing waits":                     {Load{Max: 4, Backlog: 200}, 0, false},
		"a few":                             {Load{Waiting: 199, Max: 4, Backlog: 200}, 0, false},
		"enough for one":                    {Load{Waiting: 200, Max: 4, Backlog: 200}, 1, false},
		"enough for three, and one waits":   {Load{Waiting: 650, Jobs: 1, Pending: 1, Max: 4, Backlog: 200}, 2, false},
		"as many as may be":                 {Load{Waiting: 1e6, Jobs: 1, Max: 4, Backlog: 200}, 3, false},
		"more than may be":                  {Load{Waiting: 1e6, Jobs: 9, Max: 4, Backlog: 200}, 0, false},
		"none is wanted":                    {Load{Waiting: 1e6, Backlog: 200}, 0, false},
		"no backlog says how many":          {Load{Waiting: 1e6, Max: 4}, 0, false},
		"one waits for nothing":             {Load{Jobs: 2, Pending: 1, Max: 4, Backlog: 200}, 0, true},
		"those that work end by themselves": {Load{Jobs: 2, Max: 4, Backlog: 200}, 0, false},
	} {
		if more, fewer := c.load.More(), c.load.Fewer(); more != c.more || fewer != c.fewer {
			t.Errorf("%s: %d more, fewer %t; want %d and %t", name, more, fewer, c.more, c.fewer)
		}
	}
}
