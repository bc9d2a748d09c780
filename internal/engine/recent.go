package engine

import (
	"math"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Recent is what the last minutes were like for a class.
type Recent struct {
	Started int // attempts that began to run
	Ended   int // tasks that ended for good, of those that had run
	// WaitP50 and WaitP95 are how long half, and all but one of twenty, of the attempts
	// that began had waited for their turn, to about a tenth; 0 = none began. Tasks
	// that wait for others are left out.
	WaitP50, WaitP95 time.Duration
}

// RecentWindow is how far Recent goes back.
const RecentWindow = slotTime * slots

const (
	slotTime = 10 * time.Second
	slots    = 30
	// Waits are counted by size: each bucket reaches a quarter further than the one
	// before, from a millisecond to a year.
	waitBuckets = 110
	waitGrowth  = 1.25
)

// recents are the last minutes of each class.
type recents map[string]*ring

// ring is as many slots as the window has. Which of them are of the past shows by their
// numbers.
type ring [slots]slot

// slot is ten seconds of them.
type slot struct {
	number         int64 // of the ten seconds, since 1970
	started, ended int
	waits          [waitBuckets]int32
}

func slotNumber(at time.Time) int64 { return at.UnixNano() / int64(slotTime) }

// slot returns the one that is being filled.
func (r recents) slot(class string, now time.Time) *slot {
	if r[class] == nil {
		r[class] = new(ring)
	}
	n := slotNumber(now)
	s := &r[class][n%slots]
	if s.number != n {
		*s = slot{number: n}
	}
	return s
}

func waitBucket(d time.Duration) int {
	ms := float64(max(d, time.Millisecond)) / float64(time.Millisecond)
	return min(int(math.Log(ms)/math.Log(waitGrowth)), waitBuckets-1)
}

// noteRecent counts a move.
func (e *Engine) noteRecent(a task.Applied, ev task.Event) {
	class := a.Task.Spec.Class
	if ev.Kind == task.EventStarted {
		s := e.recent.slot(class, e.now())
		s.started++
		if d, ok := waited(a.Task); ok {
			s.waits[waitBucket(d)]++
		}
	}
	if a.Task.State().Terminal() && a.Task.Status().StartedAt != 0 {
		e.recent.slot(class, e.now()).ended++
	}
}

// Recent tells of the last minutes, by class; those of which nothing began or ended
// may be missing. The window is how far it goes back: less than RecentWindow when the
// engine has not been there for so long.
func (e *Engine) Recent() (byClass map[string]Recent, window time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	first := slotNumber(now) - slots + 1
	window = min(now.Sub(e.began), now.Sub(time.Unix(0, first*int64(slotTime))))
	byClass = make(map[string]Recent, len(e.recent))
	for class, r := range e.recent {
		byClass[class] = r.sum(first)
	}
	return byClass, window
}

func (r *ring) sum(first int64) (sum Recent) {
	var waits [waitBuckets]int32
	for i := range r {
		if s := &r[i]; s.number >= first {
			sum.Started += s.started
			sum.Ended += s.ended
			for b, n := range s.waits {
				waits[b] += n
			}
		}
	}
	sum.WaitP50, sum.WaitP95 = quantile(waits, 0.5), quantile(waits, 0.95)
	return sum
}

// quantile returns the middle of the bucket that so great a share does not exceed.
func quantile(waits [waitBuckets]int32, share float64) time.Duration {
	var all, seen float64
	for _, n := range waits {
		all += float64(n)
	}
	for b, n := range waits {
		if seen += float64(n); n > 0 && seen >= share*all {
			return time.Duration(math.Pow(waitGrowth, float64(b)+0.5) * float64(time.Millisecond))
		}
	}
	return 0
}
