package envmgr

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/docker"
)

// What is told of the output of a service that has failed.
const (
	tailLines   = 20
	tailLine    = 500 // bytes of each
	tailTimeout = 10 * time.Second
)

// tail has the end of the output of a service read, beside the goroutine that decides.
func (c *care) tail(w *ward) {
	box := w.seen.box
	if box == nil || !box.Current {
		return // what a container of another definition has printed is not why this one has failed
	}
	c.work.Go(func() {
		lines := c.lastLines(c.ctx, box.ID)
		_ = c.call(c.ctx, func(c *care) { // else it is over
			if w.state.Phase == Failed {
				w.output, c.dirty = lines, true
			}
		})
	})
}

// lastLines are the last that a container has printed; none when they cannot be read, of
// which nothing depends.
func (s *Supervisor) lastLines(ctx context.Context, id string) (lines []string) {
	ctx, cancel := context.WithTimeout(ctx, tailTimeout)
	defer cancel()
	err := s.opts.Engine.Logs(ctx, id, docker.LogOptions{Tail: tailLines}, func(e docker.Entry) error {
		line := strings.TrimRight(strings.ToValidUTF8(string(e.Text), "\uFFFD"), "\r\n")
		if len(line) > tailLine {
			line = strings.ToValidUTF8(line[:tailLine], "") + "..."
		}
		lines = append(lines, line)
		return nil
	}, ctx.Err)
	if err != nil {
		s.opts.Logger.Debug("the output of a service that has failed was not read", "container", id, "error", err)
	}
	return lines[max(len(lines)-tailLines, 0):]
}

// withOutput adds to a reason what was printed last.
func withOutput(reason string, lines []string) string {
	for _, line := range slices.Backward(lines) {
		if line = strings.TrimSpace(line); line != "" {
			return fmt.Sprintf("%s; it said last: %q", reason, line)
		}
	}
	return reason
}
