package queue

import (
	"maps"
	"slices"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// imageCounts are the container images that shapes in the line name, each with how many
// of them do.
type imageCounts struct {
	byName  map[string]int
	version uint64
}

func newImageCounts() imageCounts { return imageCounts{byName: map[string]int{}, version: 1} }

// add counts a shape in (sign 1) or out (sign -1).
func (c *imageCounts) add(shape string, sign int) {
	image := task.ShapeImage(shape)
	if image == "" {
		return
	}
	before := c.byName[image]
	if c.byName[image] += sign; c.byName[image] <= 0 {
		delete(c.byName, image)
	}
	if before == 0 || c.byName[image] == 0 {
		c.version++
	}
}

// Images lists the images that tasks in the line need, in order. As long as the version
// is the same, so is the list.
func (q *Queue) Images() (list []string, version uint64) {
	q.mem.mu.RLock()
	defer q.mem.mu.RUnlock()
	c := q.mem.shapes.images
	return slices.Sorted(maps.Keys(c.byName)), c.version
}
