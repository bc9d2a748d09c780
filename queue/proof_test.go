package queue

import (
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/mounts"
)

// TestJudge: who is held for dead, and on what grounds.
func TestJudge(t *testing.T) {
	t.Parallel()
	here := host.Identity{Machine: "m", Boot: "b", PIDs: 1, Name: "h"}
	us := Owner{Machine: "m", BootID: "b", PIDs: 1, Host: "h", PID: 7, Generation: 1}
	but := func(change func(*Owner)) *Owner { o := us; change(&o); return &o }
	rebooted := but(func(o *Owner) { o.BootID = "earlier" })
	elsewhere := but(func(o *Owner) { o.BootID, o.Machine, o.Host = "other", "n", "g" })
	container := but(func(o *Owner) { o.PIDs, o.Machine, o.Host = 2, "n", "c" })
	for _, c := range []struct {
		what  string
		kind  string
		owner *Owner
		runs  bool
		want  verdict
	}{
		{"nobody is named, and we have a lock that is true", "ext4", nil, false, dead},
		{"nobody is named on a server", "nfs4", nil, false, replaceableIfSilent},
		{"our kernel grants its lock once", "ext4", &us, true, dead}, // the folder was copied while it was open
		{"our kernel grants its lock once, on a server as well", "nfs4", &us, true, dead},
		{"a process that is gone", "fuse.x", &us, false, dead},
		{"a process that runs, and a lock that a program granted", "fuse.x", &us, true, running},
		{"a process that holds another database", "ext4", but(func(o *Owner) { o.Generation = 2 }), true, running},
		{"one that held another database", "ext4", but(func(o *Owner) { o.Generation = 2 }), false, dead},
		{"one that died before its copy was in use", "nfs4", but(func(o *Owner) { o.Generation = 2 }), false, replaceableIfSilent},
		{"another container, without the lock", "ext4", container, false, dead},
		{"another container, and a lock that a program granted", "fuse.x", container, false, replaceableIfSilent},
		{"another container, with another database", "ext4", but(func(o *Owner) { o.PIDs, o.Generation = 2, 2 }), false, unproven},
		{"before this machine was started anew", "ext4", rebooted, false, dead},
		{"an older release, before this machine was started anew", "ext4", but(func(o *Owner) { o.BootID, o.Machine, o.PIDs = "earlier", "", 0 }), false, dead},
		{"this machine under another name, or one of its image that we serve our disk to", "ext4", but(func(o *Owner) { o.BootID, o.Host = "other", "g" }), false, replaceableIfSilent},
		{"a name of ours, on another machine", "ext4", but(func(o *Owner) { o.BootID, o.Machine = "other", "n" }), false, unproven},
		{"this machine, or one of its image", "nfs4", rebooted, false, deadIfSilent},
		{"a clone with a name of its own", "nfs4", but(func(o *Owner) { o.BootID, o.Host = "other", "g" }), false, unproven},
		{"another machine on our disk", "ext4", elsewhere, false, unproven},
		{"another machine", "nfs4", elsewhere, false, unproven},
		{"another machine, on what nobody knows", "", elsewhere, false, unproven},
	} {
		w := witness{here: here, mount: mounts.Mount{Type: c.kind}, generation: 1, runs: func(host.Process) bool { return c.runs }}
		if got := w.judge(c.owner); got != c.want {
			t.Errorf("%s: %d, want %d", c.what, got, c.want)
		}
	}
	w := witness{here: here, mount: mounts.Mount{Type: "nfs4"}, generation: 2, runs: func(host.Process) bool { return true }}
	if got := w.judge(elsewhere); got != deadIfSilent {
		t.Errorf("one that was followed already: %d", got)
	}
}

// TestBelief: what was seen is believed for a while only by both clocks: one stands
// still while the machine sleeps, the other can be set.
func TestBelief(t *testing.T) {
	t.Parallel()
	const d = 5 * time.Second
	for _, c := range []struct {
		steady, wall time.Duration
		want         bool
	}{
		{0, 0, true}, {d - 1, d - 1, true}, {d, d, false},
		{time.Second, time.Hour, false},  // the machine slept
		{time.Hour, time.Second, false},  // the clock was set back while the process was frozen
		{time.Second, -time.Hour, false}, // the clock was set back
	} {
		if got := bothWithin(c.steady, c.wall, d); got != c.want {
			t.Errorf("after %s, and %s on the wall, it is believed: %v", c.steady, c.wall, got)
		}
	}
}
