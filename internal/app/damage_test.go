package app

import (
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

func TestDamageText(t *testing.T) {
	t.Parallel()
	const advice = "; dspy-agent queue verify tells all that is wrong; without the daemon, queue repair keeps what can be read and queue restore takes a backup; or submit them again under other ids"
	of := func(seq task.Seq, id string) queue.Damage { return queue.Damage{Bucket: "specs", Seq: seq, ID: id} }
	for _, c := range []struct {
		list []queue.Damage
		want string
	}{
		{[]queue.Damage{of(7, "train")}, "damaged: a stored record cannot be read and was left as it is; tasks: train" + advice},
		{[]queue.Damage{{Bucket: "events"}}, "damaged: a stored record cannot be read and was left as it is; no task depends on it"},
		{
			[]queue.Damage{of(1, "a"), of(1, "a"), of(2, ""), of(3, "c"), of(4, "d"), of(5, "e")},
			"damaged: 6 stored records cannot be read and were left as they are; tasks: a, number 2, c, 2 more" + advice,
		},
	} {
		if got := damageText(c.list); got != c.want {
			t.Errorf("got  %q\nwant %q", got, c.want)
		}
	}
}
