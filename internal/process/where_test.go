package process

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

const initialPIDs = 0xEFFFFFFC

// Where an attempt runs is told by machine, boot and pid namespace; by the name
// of the host only where an old handle has nothing else.
func TestWhere(t *testing.T) {
	id := host.Identity{Machine: "m", Boot: "b", PIDs: 7, Name: "n"}
	bare := id
	bare.PIDs = initialPIDs
	for what, c := range map[string]struct {
		h    handle
		at   host.Identity
		want whereabouts
	}{
		"the same":                              {handle{Machine: "m", Boot: "b", PIDs: 7, Host: "n"}, id, here},
		"renamed since":                         {handle{Machine: "m", Boot: "b", PIDs: 7, Host: "x"}, id, here},
		"machine-id written since":              {handle{Machine: "x", Boot: "b", PIDs: 7, Host: "n"}, id, here},
		"restarted since":                       {handle{Machine: "m", Boot: "x", PIDs: 7, Host: "n"}, id, beforeBoot},
		"restarted and renamed since":           {handle{Machine: "m", Boot: "x", PIDs: 7, Host: "x"}, id, beforeBoot},
		"another machine of that name":          {handle{Machine: "x", Boot: "x", PIDs: 7, Host: "n"}, id, elsewhere},
		"another container":                     {handle{Machine: "x", Boot: "b", PIDs: 8, Host: "x"}, id, otherPIDs},
		"a container with our id and name":      {handle{Machine: "m", Boot: "b", PIDs: 8, Host: "n"}, id, otherPIDs},
		"namespace not known":                   {handle{Machine: "m", Boot: "b", Host: "n"}, id, here},
		"version 1":                             {handle{Boot: "b", Host: "n"}, id, here},
		"version 1, renamed since":              {handle{Boot: "b", Host: "x"}, bare, here},
		"version 1, of another container":       {handle{Boot: "b", Host: "x"}, id, otherPIDs},
		"version 1, restarted since":            {handle{Boot: "x", Host: "n"}, id, beforeBoot},
		"version 1, of another machine":         {handle{Boot: "x", Host: "x"}, id, elsewhere},
		"of a container, seen from the machine": {handle{Machine: "m", Boot: "b", PIDs: 8, Host: "n"}, bare, otherPIDs},
	} {
		if got := c.h.where(c.at); got != c.want {
			t.Errorf("%s: %d, want %d", what, got, c.want)
		}
	}
}

func TestOldHandle(t *testing.T) {
	h, ok := decodeHandle([]byte(`{"v":1,"host":"n","boot":"b","supervisor":"s","pid":5,"start":100}`))
	if !ok || h.PID != 5 || h.Until != 100+version1Window {
		t.Errorf("%+v, %v", h, ok)
	}
	if h, ok := decodeHandle(handle{Start: 100, Until: 101}.encode()); !ok || h.Until != 101 {
		t.Errorf("%+v, %v", h, ok)
	}
}

// A spool belongs to a machine and a boot, whatever the host is called.
func TestSpools(t *testing.T) {
	dir := t.TempDir()
	id := host.Identity{Machine: "0123456789abcdef", Boot: "aaaaaaaa-bbbb", PIDs: initialPIDs, Name: "n"}
	const own = "0123456789ab-aaaaaaaa"
	look := func(id host.Identity, want string, wantFormer ...string) {
		t.Helper()
		present, former := spools(dir, id)
		for i := range former {
			former[i] = filepath.Base(former[i])
		}
		slices.Sort(former)
		slices.Sort(wantFormer)
		if filepath.Base(present) != want || !slices.Equal(former, wantFormer) {
			t.Errorf("%s and %v, want %s and %v", present, former, want, wantFormer)
		}
	}
	look(id, own)
	for _, name := range []string{"0123456789ab-11111111", "n-22222222", "other-33333333", "ffffffffffff-44444444", "0123456789ab-aaaaaaaa-77", "junk"} {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o700))
	}
	look(id, own, "0123456789ab-11111111", "n-22222222", "0123456789ab-aaaaaaaa-77")
	container := id
	container.PIDs, container.Machine, container.Name = 88, "eeeeeeeeeeeeeeee", "c"
	look(container, "eeeeeeeeeeee-aaaaaaaa-88", "0123456789ab-aaaaaaaa-77")
	container.PIDs = 77
	look(container, "0123456789ab-aaaaaaaa-77")
	must(t, os.Mkdir(filepath.Join(dir, "x-aaaaaaaa"), 0o700)) // of an earlier version, before the host was renamed
	look(id, "x-aaaaaaaa", "0123456789ab-11111111", "n-22222222", "0123456789ab-aaaaaaaa-77")
	must(t, os.Mkdir(filepath.Join(dir, own), 0o700))
	look(id, own, "x-aaaaaaaa", "0123456789ab-11111111", "n-22222222", "0123456789ab-aaaaaaaa-77")
}

func launchedAs(t *testing.T, seq task.Seq, h handle) task.Task {
	t.Helper()
	return apply(t, assigned(t, seq, sh("true")), task.Event{Kind: task.EventLaunched, Attempt: 1, Handle: h.encode()})
}

// What ran before the machine was restarted is lost. What runs on another machine of the
// same name, or under another name on one with our id, is left alone, and said.
func TestRestartedMachineIsSaid(t *testing.T) {
	p := newPlace(t)
	opts := p.options("q")
	id, err := host.This()
	must(t, err)
	before := launchedAs(t, 1, handle{Host: id.Name, Machine: id.Machine, Boot: "another", PID: 1})
	version1 := launchedAs(t, 2, handle{Host: id.Name, Boot: "another", PID: 1})
	twin := launchedAs(t, 3, handle{Host: id.Name, Machine: "another", Boot: "another", PID: 1})
	container := launchedAs(t, 4, handle{Host: "c", Machine: "another", Boot: id.Boot, PIDs: id.PIDs + 1, PID: 1})
	image := launchedAs(t, 5, handle{Host: "of-one-image", Machine: id.Machine, Boot: "another", PID: 1})
	d := p.daemon(t, opts, before, version1, twin, container, image)
	for _, tk := range []task.Task{before, version1} {
		if ev := d.end(tk.Ref()).Event; ev.Kind != task.EventVanished || !strings.Contains(ev.Text, "restarted") {
			t.Fatalf("event %+v", ev)
		}
	}
	for _, tk := range []task.Task{twin, container, image} {
		if ev := d.await(tk.Ref(), task.EventNoted).Event; !strings.Contains(ev.Text, "left alone") {
			t.Fatalf("event %+v", ev)
		}
		d.mu.Lock()
		got := kindsOf(d.events[tk.Ref()])
		d.mu.Unlock()
		if len(got) != 1 {
			t.Fatalf("said of an attempt elsewhere: %v", got)
		}
	}
}

// A stop does not reach another machine. Who cancels is rid of the task, and is
// not told that it has stopped.
func TestStopElsewhere(t *testing.T) {
	p := newPlace(t)
	far := launchedAs(t, 1, handle{Host: "far-away", Machine: "another", Boot: "another", PID: 1})
	d := p.daemon(t, p.options("q"), far)
	d.await(far.Ref(), task.EventNoted)
	far = apply(t, far, task.Event{Kind: task.EventCancelAsked, By: "me", Attempt: 1}, task.Event{Kind: task.EventStopping, Attempt: 1, Cause: task.CauseCancel})
	must(t, d.Stop(t.Context(), far))
	ev := d.end(far.Ref()).Event
	if ev.Kind != task.EventVanished || !strings.Contains(ev.Text, "far-away") || !strings.Contains(ev.Text, "may still run") {
		t.Fatalf("event %+v", ev)
	}
	if far = apply(t, far, ev); far.State() != task.Lost {
		t.Fatalf("state %s", far.State())
	}
}
