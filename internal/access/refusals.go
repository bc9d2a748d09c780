package access

import (
	"log/slog"
	"maps"
	"net"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// logEvery is how often a line is written for refusals of one reason. Whoever
// is refused must not be able to fill the disk.
const logEvery = 10 * time.Second

// refusals counts and logs who was refused, and bounds the work of refusing.
type refusals struct {
	log   *slog.Logger
	bound *rate.Limiter // of microseconds

	mu     sync.Mutex
	byWord map[string]*refusal
}

type refusal struct {
	total   uint64
	quiet   uint64 // since the last line in the log
	limiter *rate.Limiter
}

func newRefusals(log *slog.Logger, share float64) *refusals {
	perSecond := share * float64(time.Second/time.Microsecond)
	return &refusals{
		log:    log,
		bound:  rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond/4))),
		byWord: map[string]*refusal{},
	}
}

// add counts a refusal, and logs it unless one for the same reason was just logged.
func (r *refusals) add(conn net.Conn, err error) {
	word := Reason(err)
	r.mu.Lock()
	of := r.byWord[word]
	if of == nil {
		of = &refusal{limiter: rate.NewLimiter(rate.Every(logEvery), 1)}
		r.byWord[word] = of
	}
	of.total++
	of.quiet++
	quiet := of.quiet - 1
	say := of.limiter.Allow()
	if say {
		of.quiet = 0
	}
	r.mu.Unlock()
	if say {
		r.log.Warn("connection refused", "reason", word, "local", conn.LocalAddr().String(),
			"remote", conn.RemoteAddr().String(), "error", err, "suppressed", quiet)
	}
}

// pace waits after a refusal that took some time, as long as refusing costs more
// than it may, or until closing.
func (r *refusals) pace(took time.Duration, closing <-chan struct{}) {
	cost := min(max(1, int(took.Microseconds())), r.bound.Burst())
	wait := r.bound.ReserveN(time.Now(), cost).Delay()
	if wait <= 0 {
		return
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-closing:
	}
}

// counts returns the number of refusals by word.
func (r *refusals) counts() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[string]uint64, len(r.byWord))
	for word, of := range maps.All(r.byWord) {
		out[word] = of.total
	}
	return out
}
