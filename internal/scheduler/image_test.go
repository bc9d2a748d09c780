package scheduler

import (
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// imageSnapshot has a machine of one CPU, and a line of tasks with the images.
func imageSnapshot(known map[string]Image, images ...string) Snapshot {
	s := Snapshot{
		Now: task.Instant(time.Hour), Capacity: Capacity{CPUMilli: 1000},
		Backends: map[string]Backend{
			"process":   {Name: "process", Local: true, NoImage: true},
			"container": {Name: "container", Local: true, Image: true, Images: known},
		},
		Classes: map[string]Class{"c": {Name: "c", Backends: []string{"process", "container"}, AheadPerSlot: 4}},
	}
	for i, image := range images {
		s.Heads = append(s.Heads, Head{Seq: task.Seq(i + 1), ID: image, Attempt: 1, Class: "c", Shape: image, Image: image, Order: task.Instant(i)})
	}
	return s
}

// A task whose image is not there holds nothing up: what comes after it starts, and it
// says how far its image is.
func TestImageBeforePlace(t *testing.T) {
	t.Parallel()
	d := Plan(imageSnapshot(map[string]Image{"slow": {Why: "is being fetched: 1.0 of 2.0 MB"}, "there": {Ready: true}}, "slow", "new", "there"))
	if len(d.Place) != 1 || d.Place[0].Seq != 3 || d.Place[0].Backend != "container" || len(d.Refuse) != 0 {
		t.Fatalf("%+v", d)
	}
	if why := d.Waits["slow"].Reason; why != "its image slow is being fetched: 1.0 of 2.0 MB" {
		t.Errorf("it waits because %q", why)
	}
	if why := d.Waits["new"].Reason; !strings.Contains(why, "is being looked for") {
		t.Errorf("it waits because %q", why)
	}
}

// A task whose image can never be had fails, and takes no room for that.
func TestImageThatCannotBeHad(t *testing.T) {
	t.Parallel()
	d := Plan(imageSnapshot(map[string]Image{"bad": {Bad: true, Why: "does not exist"}, "there": {Ready: true}}, "bad", "there"))
	if len(d.Refuse) != 1 || d.Refuse[0].Seq != 1 || d.Refuse[0].Class != task.ImageTrouble || d.Refuse[0].Reason != "its image bad does not exist" {
		t.Fatalf("%+v", d.Refuse)
	}
	if len(d.Place) != 1 || d.Place[0].Seq != 2 {
		t.Errorf("%+v", d.Place)
	}
}

// Nobody starts a container when a slot becomes free, so none is placed ahead of one,
// nor a process beside one.
func TestNoContainerAhead(t *testing.T) {
	t.Parallel()
	s := imageSnapshot(map[string]Image{"there": {Ready: true}}, "there", "")
	second := s.Heads[0]
	second.Seq, second.Shape = 3, "there, again"
	s.Heads = append(s.Heads, second)
	if d := Plan(s); len(d.Place) != 1 || d.Place[0].Lease.Ahead {
		t.Errorf("%+v", d.Place)
	}
}
