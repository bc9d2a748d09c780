package task

import "time"

// Instant is a point in time as Unix nanoseconds in UTC; 0 means "not yet" or
// "never". It is what is stored: comparable, small, and free of time zones and
// monotonic readings, which mean nothing to another process.
type Instant int64

// At converts a time. The zero time becomes 0.
func At(t time.Time) Instant {
	if t.IsZero() {
		return 0
	}
	return Instant(t.UnixNano())
}

// Time converts back, in the local zone. 0 becomes the zero time.
func (i Instant) Time() time.Time {
	if i == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(i))
}

// Add returns the instant d later.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d) }

// Sub returns the time from u to i.
func (i Instant) Sub(u Instant) time.Duration { return time.Duration(i - u) }
