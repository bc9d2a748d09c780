package slurm

import (
	"context"
	"slices"
	"strings"
)

// Working says of jobs of the user, whoever submitted them, which may still work or begin
// to. One that Slurm does not know any more does not. An element of an array has a number
// of its own, which is the one in its environment.
func (c *Client) Working(ctx context.Context, ids []string) (map[string]bool, error) {
	s, err := c.run(ctx, nil, "squeue", "--me", "--noheader", "--array", "--states=all", "--format=%A|%T")
	if err != nil {
		return nil, unanswered(err)
	}
	out := make(map[string]bool, len(ids))
	for line := range strings.Lines(s.out) {
		id, state, ok := strings.Cut(strings.TrimSpace(line), "|")
		if ok && slices.Contains(ids, id) && State(state).phase() != gone {
			out[id] = true
		}
	}
	return out, nil
}
