package worker

import "time"

// rate is how many attempts have ended a second, lately.
type rate struct {
	since time.Time
	n     int
	value float64
}

// window is over which it is measured.
const window = 250 * time.Millisecond

func (r *rate) add(n int, now time.Time) {
	r.n += n
	r.settle(now)
}

func (r *rate) settle(now time.Time) {
	d := now.Sub(r.since)
	if d < window {
		return
	}
	if !r.since.IsZero() {
		r.value = float64(r.n) / d.Seconds()
	}
	r.since, r.n = now, 0
}

// per is how many are to be expected in a time.
func (r *rate) per(d time.Duration, now time.Time) int {
	r.settle(now)
	return int(r.value * d.Seconds())
}
