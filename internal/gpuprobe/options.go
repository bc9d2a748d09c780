package gpuprobe

import (
	"log/slog"
	"time"
)

// Options say what to run, and how patiently.
type Options struct {
	Probe []string // gpu-probe and its arguments; nil = there is none
	SMI   []string // nvidia-smi; nil = there is none
	Env   []string // of both
	// Period is between two snapshots.
	Period time.Duration
	// Stale is how old a view may be that is placed by.
	Stale time.Duration
	// CallLimit is how long one call of the driver may take, and how long the
	// probe may say nothing at all beyond its period.
	CallLimit time.Duration
	// Pause is before the first new start; it doubles up to MaxPause.
	Pause, MaxPause time.Duration
	Log             *slog.Logger // nil = none
}

// The defaults: an H100's driver answers a snapshot in half a millisecond, the
// dear calls of it in 17 at worst.
const (
	defaultPeriod    = 5 * time.Second
	defaultStale     = 20 * time.Second
	defaultCallLimit = 30 * time.Second
	defaultPause     = time.Second
	defaultMaxPause  = time.Minute
)

func (o Options) withDefaults() Options {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&o.Period, defaultPeriod)
	set(&o.Stale, defaultStale)
	set(&o.CallLimit, defaultCallLimit)
	set(&o.Pause, defaultPause)
	set(&o.MaxPause, defaultMaxPause)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}
