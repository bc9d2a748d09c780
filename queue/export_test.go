package queue

import (
	"time"

	"github.com/dspy-agent/dspy-agent/internal/mounts"
)

// Terms are the times of a lease.
type Terms struct{ Beat, Confirm, Watch, Grace time.Duration }

// OnMount makes the queue believe that it is on a file system of that type.
func (o Options) OnMount(kind string) Options {
	o.mountOf = func(dir string) (mounts.Mount, error) {
		return mounts.Mount{Point: dir, Type: kind, Source: "files:/export"}, nil
	}
	return o
}

// WithTerms changes the times of the lease.
func (o Options) WithTerms(t Terms) Options {
	o.terms = terms{beat: t.Beat, confirm: t.Confirm, watch: t.Watch, grace: t.Grace}
	return o
}

// BootTime is CLOCK_BOOTTIME.
func BootTime() int64 { return bootTime() }

// OnApproach calls f when the queue directory is looked at before it is locked.
func (o Options) OnApproach(f func()) Options {
	o.mountOf = func(dir string) (mounts.Mount, error) {
		f()
		return mountOf(dir)
	}
	return o
}
