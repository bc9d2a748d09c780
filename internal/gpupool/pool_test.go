package gpupool

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/gpu"
	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

func uidOf(dir string) int {
	info, err := os.Stat(dir)
	if err != nil {
		return -1
	}
	return int(info.Sys().(*syscall.Stat_t).Uid)
}

// TestCooling: a device is not free when its task has ended, but when its memory is.
func TestCooling(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir())
	w.see(device(0, 0))
	if why := w.Claim("t1", []string{string(id(0))}); why != "" {
		t.Fatal(why)
	}
	w.Hold([]task.Task{held(1, id(0))})
	if s := w.state(id(0)); s != gpu.Held {
		t.Fatalf("%s while it is held", s)
	}
	w.Hold(nil)
	if s := w.state(id(0)); s != gpu.CoolingOff {
		t.Fatalf("%s when its task has ended", s)
	}
	w.see(device(0, 20*gib))
	if s := w.state(id(0)); s != gpu.CoolingOff {
		t.Fatalf("%s while its memory is in use", s)
	}
	if len(w.claims) != 1 {
		t.Fatal("it is unlocked while its memory is in use")
	}
	w.see(device(0, 0))
	if s := w.state(id(0)); s != gpu.Free || len(w.claims) != 0 {
		t.Fatalf("%s, %d locks, when its memory is free", s, len(w.claims))
	}
}

// TestKilledDaemonRemembers: after kill -9 a device of a task that has ended meanwhile
// cools first, and one of a task that has not is held; drains are kept.
func TestKilledDaemonRemembers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWorld(t, dir)
	w.see(device(0, 0), device(1, 0), device(2, 0))
	if why := w.Claim("t1", []string{string(id(0))}); why != "" {
		t.Fatal(why)
	}
	if why := w.Claim("t2", []string{string(id(1))}); why != "" {
		t.Fatal(why)
	}
	if _, err := w.Drain("2", "uid 1", "fan"); err != nil {
		t.Fatal(err)
	}
	for _, c := range w.claims { // as the kernel does for a process that is killed
		_ = c.file.Close()
	}
	again := newWorld(t, dir)
	again.Hold([]task.Task{held(2, id(1))})
	again.sight.show(device(0, 30*gib), device(1, 0), device(2, 0))
	again.update()
	for i, want := range []gpu.State{gpu.CoolingOff, gpu.Held, gpu.Drained} {
		if s := again.state(id(i)); s != want {
			t.Errorf("GPU %d is %s, want %s", i, s, want)
		}
	}
	again.see(device(0, 0), device(1, 0), device(2, 0))
	if s := again.state(id(0)); s != gpu.Free {
		t.Errorf("GPU 0 is %s when its memory is free", s)
	}
	if _, err := again.Resume("GPU-02", "uid 1"); err != nil {
		t.Error(err)
	}
	if s := again.state(id(2)); s != gpu.Free {
		t.Errorf("GPU 2 is %s, resumed", s)
	}
}

// TestTwoSchedulers: of two schedulers of one machine only one has a GPU; the other
// sees that and whose it is, also when the daemon of the first is gone and its task is
// not.
func TestTwoSchedulers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	task1 := host.Process{}
	other := newWorld(t, dir, func(o *Options) {
		o.QueueID, o.File = "q2", o.File+"2"
		keep := o.Starter
		o.Starter = func() host.Process {
			if task1.PID != 0 {
				return task1
			}
			return keep()
		}
	})
	w := newWorld(t, dir)
	w.see(device(0, 0))
	gpu0 := []string{string(id(0))}
	if why := other.Claim("theirs", gpu0); why != "" {
		t.Fatal(why)
	}
	if why := w.Claim("ours", gpu0); !strings.Contains(why, "for task theirs") {
		t.Fatalf("both have it: %q", why)
	}
	w.see(device(0, 0))
	v := w.See(nil, nil, time.Now())().Verdicts[0]
	if v.State != gpu.Foreign || !strings.Contains(v.Because, "for task theirs") {
		t.Fatalf("%s: %s", v.State, v.Because)
	}
	_ = other.claims[id(0)].file.Close() // its daemon is killed
	if why := w.Claim("ours", gpu0); !strings.Contains(why, "for task theirs") {
		t.Fatalf("it is given out while the other's task runs: %q", why)
	}
	task1 = host.Process{PID: 1 << 30, Start: 1, Boot: "gone"} // and its task ends
	if err := other.writeNote(id(0), other.claims[id(0)], []keeper{other.keeper("theirs")}); err != nil {
		t.Fatal(err)
	}
	if why := w.Claim("ours", gpu0); why != "" {
		t.Fatalf("it is not free when nobody has it: %s", why)
	}
}

// TestClaimIsAllOrNothing: what cannot be had whole is not had in part.
func TestClaimIsAllOrNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other := newWorld(t, dir, func(o *Options) { o.QueueID, o.File = "q2", o.File+"2" })
	w := newWorld(t, dir)
	if why := other.Claim("theirs", []string{string(id(1))}); why != "" {
		t.Fatal(why)
	}
	if why := w.Claim("ours", []string{string(id(0)), string(id(1))}); why == "" {
		t.Fatal("both have GPU 1")
	}
	if why := other.Claim("theirs", []string{string(id(0))}); why != "" {
		t.Fatalf("GPU 0 is locked for nobody: %s", why)
	}
}

// TestNotes: whoever runs beside a task is named on it; a device that is lost under it is
// told, and blamed for its failure.
func TestNotes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir())
	w.see(device(0, 0), device(1, 0))
	tasks := []task.Task{held(1, id(0)), held(2, id(1))}
	w.Hold(tasks)
	busy := device(0, 10*gib)
	busy.Sample.Processes = []gpu.Process{{PID: 4242, StartTicks: 7, UID: 1001, Comm: "python", UsedBytes: new(10 * gib), GI: -1, CI: -1}}
	w.see(busy, device(1, 0))
	texts, lost := w.Notes()
	if want := "contended: GPU 0 is also used by python (uid 1001, pid 4242, 10 GiB)"; texts[1] != want || len(lost) != 0 {
		t.Errorf("%v, %v; want %q", texts, lost, want)
	}
	w.sight.events = []gpu.Event{{At: time.Now(), Device: id(1), Kind: gpu.EventXID, XID: 79, GI: -1, CI: -1}}
	w.update()
	if _, lost = w.Notes(); !strings.Contains(lost[2], "GPU 1: XID 79: it fell off the bus") {
		t.Errorf("lost: %v", lost)
	}
	if because, _ := w.Blame(tasks[1]); !strings.Contains(because, "XID 79") {
		t.Errorf("blamed: %q", because)
	}
	if because, contended := w.Blame(tasks[0]); because != "" || !strings.Contains(contended, "pid 4242") {
		t.Errorf("blamed: %q, %q", because, contended)
	}
	w.Hold(nil)
	if texts, lost = w.Notes(); len(texts)+len(lost) != 0 {
		t.Errorf("of nobody: %v %v", texts, lost)
	}
}

// TestUse: time held is of all devices together, time busy of what was sampled.
func TestUse(t *testing.T) {
	t.Parallel()
	now := time.Now()
	w := newWorld(t, t.TempDir(), func(o *Options) {
		o.Whose = func(pid int, _ []task.Task) (task.Seq, bool) { return 1, pid == 7 }
		o.Now = func() time.Time { return now }
	})
	w.see(device(0, 0), device(1, 0))
	tk := held(1, id(0), id(1))
	w.Hold([]task.Task{tk})
	d := device(0, 3*gib)
	d.Sample.Processes = []gpu.Process{{PID: 7, StartTicks: 9, UID: w.o.UID, Comm: "python", UsedBytes: new(3 * gib), GI: -1, CI: -1}}
	w.see(d, device(1, 0))
	now = now.Add(10 * time.Second)
	w.see(device(0, 0), device(1, 0))
	u := w.Use(tk, tk.Status().AssignedAt.Time().Add(time.Minute))
	if u.Held != 2*time.Minute || u.Peak != 3*gib || u.Busy != 30*time.Second+10*time.Second {
		t.Errorf("%+v", u)
	}
	if s := w.state(id(0)); s != gpu.Held {
		t.Errorf("%s", s)
	}
}

// TestOff: a pool that gives out nothing says why.
func TestOff(t *testing.T) {
	t.Parallel()
	p, err := New(Options{Off: "it is off"})
	if err != nil {
		t.Fatal(err)
	}
	if g := p.See(nil, nil, time.Now())(); g.Down != "it is off" || p.Missing() != "it is off" {
		t.Errorf("%+v", g)
	}
	if _, err := p.Drain("0", "me", ""); task.CodeOf(err) != task.CodeUnsupported {
		t.Error(err)
	}
}

// TestSpoiledFile: what cannot be read is put aside.
func TestSpoiledFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/gpus.json", []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	newWorld(t, dir).see(device(0, 0))
	if _, err := os.Stat(dir + "/gpus.json.unread"); err != nil {
		t.Error(err)
	}
}

// TestContainers: what runs in the container of a task is the task's, whatever user it
// runs as, and what is left of it when it has ended is no stranger's. Another container is.
func TestContainers(t *testing.T) {
	t.Parallel()
	ours, strange := strings.Repeat("0a", 32), strings.Repeat("f0", 32)
	w := newWorld(t, t.TempDir(), func(o *Options) {
		o.Container = func(t task.Task) string { return map[task.Seq]string{1: ours}[t.Seq] }
	})
	in := func(device gpu.Device, container string) gpu.Device {
		device.Sample.Processes = []gpu.Process{{PID: 4242, StartTicks: 7, UID: 100_000, Comm: "python", UsedBytes: new(10 * gib), Cgroup: "/docker/" + container, GI: -1, CI: -1}}
		return device
	}
	w.see(device(0, 0), device(1, 0))
	if why := w.Claim("t1", []string{string(id(0))}); why != "" {
		t.Fatal(why)
	}
	tk := held(1, id(0))
	w.Hold([]task.Task{tk})
	w.see(in(device(0, 10*gib), ours), in(device(1, 10*gib), strange))
	if texts, _ := w.Notes(); len(texts) != 0 {
		t.Errorf("said of it: %v", texts)
	}
	devices := w.List().Devices
	if o := devices[0].Owners[0]; o != (gpu.Owner{Kind: gpu.OwnerTask, Name: "t1"}) || devices[0].Contended() {
		t.Errorf("its process is of %v, contended: %v", o, devices[0].Contended())
	}
	if o := devices[1].Owners[0]; o.Kind != gpu.OwnerContainer || w.state(id(1)) != gpu.Foreign {
		t.Errorf("the stranger's process is of %v, its GPU %s", o, w.state(id(1)))
	}
	if u := w.Use(tk, time.Now()); u.Peak != 10*gib {
		t.Errorf("it had %d bytes at most", u.Peak)
	}
	w.Hold(nil)
	w.see(in(device(0, 10*gib), ours), device(1, 0))
	if s := w.state(id(0)); s != gpu.CoolingOff {
		t.Errorf("%s while its container is being ended", s)
	}
	w.see(device(0, 0), device(1, 0))
	if s := w.state(id(0)); s != gpu.Free {
		t.Errorf("%s at once when it is gone", s)
	}
}

// TestNoteNamesTheTask: a note names who starts a task until its own process is known,
// and that one for as long as it runs, also where a new daemon does not know it yet.
func TestNoteNamesTheTask(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	self, err := host.Self()
	if err != nil {
		t.Fatal(err)
	}
	own, starter := host.Process{}, host.Process{PID: 1 << 30, Start: 1, Boot: self.Boot}
	change := func(o *Options) {
		o.Process = func(task.Task) host.Process { return own }
		o.Starter = func() host.Process { return starter }
	}
	names := func(w *world) int { return w.claims[id(0)].note[0].PID }
	w := newWorld(t, dir, change)
	w.see(device(0, 0))
	if why := w.Claim("t1", []string{string(id(0))}); why != "" {
		t.Fatal(why)
	}
	w.Hold([]task.Task{held(1, id(0))})
	if names(w) != starter.PID {
		t.Errorf("it names %d", names(w))
	}
	own = self
	w.update()
	if names(w) != self.PID {
		t.Errorf("it names %d, and the task is known", names(w))
	}
	_ = w.claims[id(0)].file.Close() // the daemon is killed
	own = host.Process{}
	again := newWorld(t, dir, change)
	again.Hold([]task.Task{held(1, id(0))})
	if names(again) != self.PID {
		t.Errorf("a new daemon has it name %d", names(again))
	}
}

// TestShares: a sharer that has more than it asked for is told of, and so are those whose
// memory it has; one that has a little more is not.
func TestShares(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), func(o *Options) {
		o.Whose = func(pid int, _ []task.Task) (task.Seq, bool) { return task.Seq(pid), true }
	})
	shares := func(seq task.Seq) task.Task {
		tk := held(seq, id(0))
		s := tk.Status()
		s.Lease.GPUMem = 20 * gib
		return task.Restore(seq, tk.Spec, s)
	}
	see := func(first, second int64) {
		d := device(0, first+second)
		for i, used := range []int64{first, second} {
			d.Sample.Processes = append(d.Sample.Processes, gpu.Process{PID: i + 1, StartTicks: 9, UID: w.o.UID, UsedBytes: new(used), GI: -1, CI: -1})
		}
		w.see(d)
	}
	tasks := []task.Task{shares(1), shares(2)}
	w.see(device(0, 0))
	w.Hold(tasks)
	see(20*gib, 21*gib)
	texts, _ := w.Notes()
	if texts[1] != "" || texts[2] != "it uses 21 GiB of GPU 0, and asked for 20 GiB" {
		t.Errorf("%v", texts)
	}
	see(20*gib, 40*gib)
	texts, _ = w.Notes()
	if want := "contended: GPU 0 is also used by task t2, which has 40 GiB of it and asked for 20 GiB"; texts[1] != want {
		t.Errorf("%v, want %q", texts, want)
	}
	if _, contended := w.Blame(tasks[0]); !strings.Contains(contended, "task t2") {
		t.Errorf("its failure would not tell: %q", contended)
	}
}

// TestDiskIsWaitedForWithoutLock: while what was told is written down, those who place tasks
// do not wait.
func TestDiskIsWaitedForWithoutLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWorld(t, dir, func(o *Options) { o.Failed = func(gpu.DeviceID, gpu.Health) error { return nil } })
	w.see(device(0, 0))
	w.sight.events = []gpu.Event{{At: time.Now(), Device: id(0), Kind: gpu.EventXID, XID: 79, GI: -1, CI: -1}}
	w.update()
	if err := syscall.Mkfifo(w.o.File+".new", 0o600); err != nil { // its opening takes until there is a reader
		t.Fatal(err)
	}
	told, looked := make(chan struct{}), make(chan struct{})
	go func() { defer close(told); w.tell() }()
	go func() {
		defer close(looked)
		for began := time.Now(); time.Since(began) < 200*time.Millisecond; {
			w.List()
		}
	}()
	select {
	case <-looked:
	case <-time.After(time.Minute):
		t.Error("a look waits for the disk")
	}
	select {
	case <-told:
		t.Error("the file was not written")
	default:
	}
	f, err := os.Open(w.o.File + ".new")
	if err != nil {
		t.Fatal(err)
	}
	<-told
	<-looked
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// TestFailedIsTold: a device that becomes unhealthy is told of once, also over a restart;
// again where it could not be told, and when it fails again.
func TestFailedIsTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var told []string
	var refuse error
	change := func(o *Options) {
		o.Failed = func(id gpu.DeviceID, h gpu.Health) error {
			told = append(told, string(id)+" "+string(h.State)+": "+h.Reason)
			return refuse
		}
	}
	w := newWorld(t, dir, change)
	w.see(device(0, 0), device(1, 0))
	w.tell()
	if len(told) != 0 {
		t.Fatalf("told of devices that are well: %v", told)
	}
	refuse = errors.New("disk full")
	w.sight.events = []gpu.Event{{At: time.Now(), Device: id(1), Kind: gpu.EventXID, XID: 48, GI: -1, CI: -1}}
	w.update()
	w.tell()
	refuse = nil
	w.tell()
	w.tell()
	if want := "GPU-01 unhealthy: XID 48: memory lost a value"; len(told) != 2 || told[0] != want || told[1] != want {
		t.Errorf("told %q", told)
	}
	again := newWorld(t, dir, change)
	again.see(device(0, 0), device(1, 0))
	again.tell()
	if len(told) != 2 {
		t.Errorf("told again after a restart: %q", told)
	}
	if _, err := again.Resume("1", "me"); err != nil {
		t.Fatal(err)
	}
	again.tell()
	again.sight.events = []gpu.Event{{At: time.Now(), Device: id(1), Kind: gpu.EventXID, XID: 79, GI: -1, CI: -1}}
	again.update()
	again.tell()
	if len(told) != 3 || told[2] != "GPU-01 lost: XID 79: it fell off the bus" {
		t.Errorf("told %q", told)
	}
}
