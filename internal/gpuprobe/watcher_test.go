package gpuprobe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/gpu"
	"github.com/dspy-agent/dspy-agent/internal/gputest"
)

func TestKeepsAView(t *testing.T) {
	m := gputest.New(t, gputest.GPUs(1))
	w := watch(t, m, func(o *Options) { o.Period = time.Hour }) // only what is asked for
	if why := w.Down(); why != "the GPUs have not been seen yet" {
		t.Errorf("at first: %q", why)
	}
	up(t, w)
	first := w.Latest()
	m.Set(fmt.Sprintf("[gpu 0]\nproc = %d 1GiB\n[gpu 1]\n", os.Getpid()))
	second, err := w.Refresh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(first.Snapshot.Devices) != 1 || len(second.Snapshot.Devices) != 2 {
		t.Errorf("%d devices, then %d", len(first.Snapshot.Devices), len(second.Snapshot.Devices))
	}
	p := second.Snapshot.Devices[0].Sample.Processes[0]
	if p.UID != os.Getuid() || p.StartTicks == 0 || p.Comm == "" || p.Gone {
		t.Errorf("this process is %+v", p)
	}
}

func TestEventsAreKept(t *testing.T) {
	m := gputest.New(t, gputest.GPUs(2))
	w := watch(t, m, nil)
	up(t, w)
	m.Event("xid 1 79")
	var got []gpu.Event
	poll(t, "the event", func() bool {
		got = append(got, w.Events()...)
		return len(got) > 0
	})
	if len(got) != 1 || got[0].XID != 79 || got[0].Device != gpu.DeviceID(gputest.UUID(1)) {
		t.Errorf("events %+v", got)
	}
}

func TestKilledProbeIsReplaced(t *testing.T) {
	m := gputest.New(t, gputest.GPUs(1))
	w := watch(t, m, nil)
	for range 3 {
		up(t, w)
		pid := latest(t, m)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		poll(t, "another probe", func() bool { return latest(t, m) != pid })
	}
	up(t, w)
}

func TestStoppedProbeIsReplaced(t *testing.T) {
	m := gputest.New(t, gputest.GPUs(1))
	w := watch(t, m, func(o *Options) { o.CallLimit, o.Stale = time.Second, 200*time.Millisecond })
	up(t, w)
	pid := latest(t, m)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	poll(t, "a word about it", func() bool { return strings.HasPrefix(w.Down(), "the last look at the GPUs is ") })
	poll(t, "another probe", func() bool { return latest(t, m) != pid })
	poll(t, "the end of the first", func() bool { return !alive(pid) })
	up(t, w)
}

func TestHangingCallIsNamedAndEnded(t *testing.T) {
	m := gputest.New(t, gputest.GPUs(1))
	w := watch(t, m, func(o *Options) { o.Stale = 100 * time.Millisecond })
	up(t, w)
	pid := latest(t, m)
	m.Set("[gpu 0]\ndelay_us.nvmlDeviceGetPowerUsage = 3600000000\n")
	want := "nvmlDeviceGetPowerUsage on " + gputest.UUID(0) + " does not come back from the driver"
	poll(t, want, func() bool { return strings.Contains(w.Down(), want) })
	m.Set(gputest.GPUs(1))
	up(t, w)
	if latest(t, m) == pid {
		t.Error("the same probe goes on")
	}
}

// A probe that is gone for good ends nothing but itself, and the reader of a view
// is not kept waiting.
func TestRefreshEndsWithItsContext(t *testing.T) {
	w := New(Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Refresh(ctx); err == nil {
		t.Error("a view out of nothing")
	}
}

func TestNoDriverIsSaidAndFoundLater(t *testing.T) {
	m := gputest.New(t, "return.nvmlInit = LIB_RM_VERSION_MISMATCH\n[gpu 0]\n")
	w := watch(t, m, nil)
	const want = "NVIDIA's driver does not work here: the driver was upgraded under the running kernel module: reboot, or reload the module nvidia (LIB_RM_VERSION_MISMATCH)"
	poll(t, want, func() bool { return w.Down() == want })
	m.Set(gputest.GPUs(1))
	up(t, w)
}

// After an upgrade under a running probe only a new process can work.
func TestDriverUpgradedUnderneath(t *testing.T) {
	m := gputest.New(t, gputest.GPUs(1))
	w := watch(t, m, nil)
	up(t, w)
	pid := latest(t, m)
	m.Set("return.* = LIB_RM_VERSION_MISMATCH\n[gpu 0]\n")
	poll(t, "a word about it", func() bool { return strings.HasSuffix(w.Down(), "(LIB_RM_VERSION_MISMATCH)") })
	m.Set(gputest.GPUs(1))
	up(t, w)
	if latest(t, m) == pid {
		t.Error("the same probe goes on")
	}
}

func TestDriverInstalledLater(t *testing.T) {
	m := gputest.New(t, gputest.GPUs(1))
	library := filepath.Join(t.TempDir(), "libnvidia-ml.so.1")
	w := watch(t, m, func(o *Options) { o.Probe = []string{gputest.Probe(t), "--library", library} })
	poll(t, "a word about the library", func() bool { return strings.Contains(w.Down(), "LIBRARY_NOT_FOUND") })
	if err := os.Symlink(gputest.Library(t, gputest.Newest), library); err != nil {
		t.Fatal(err)
	}
	up(t, w)
}

func TestProbeOfAnotherVersion(t *testing.T) {
	w := watch(t, gputest.New(t, ""), func(o *Options) {
		o.Probe = []string{script(t, `echo '{"hello":{"format":99,"version":"v9"}}'; cat >/dev/null`)}
	})
	poll(t, "a word about it", func() bool { return strings.Contains(w.Down(), "gpu-probe v9 speaks format 99, and this is format 1") })
}

// The probe's life hangs on its parent's, however that ends.
func TestProbeDiesWithItsParent(t *testing.T) {
	m := gputest.New(t, gputest.GPUs(1))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.CommandContext(t.Context(), self)
	parent.Env = append(append(os.Environ(), m.Env()...), parentEnv+"="+strings.Join(argv(t), "\x1f"))
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	poll(t, "a probe", func() bool { return len(callers(m)) > 0 })
	pid := latest(t, m)
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // killed
	poll(t, "the probe's end", func() bool { return !alive(pid) })
}

// script writes a program.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

const smiAnswers = `case $1 in
--query-gpu=*) echo "GPU-x, 0, NVIDIA H100 80GB HBM3, 580.159.04, 00000000:00:06.0, 81559, 1542, 80017, Default, Disabled, 3, 48, 77.04, 0" ;;
--query-compute-apps=*) echo "GPU-x, 1, 1542" ;;
esac`

func TestFallsBackToSMI(t *testing.T) {
	for name, probe := range map[string][]string{
		"a probe that is not linked": {script(t, "exit 127")},
		"no probe":                   nil,
		"a probe without a library":  {gputest.Probe(t), "--library", "/nowhere/libnvidia-ml.so.1"},
		"a probe that is not there":  {"/nowhere/gpu-probe"},
		"a probe that talks rubbish": {script(t, "echo rubbish; cat >/dev/null")},
	} {
		t.Run(name, func(t *testing.T) {
			w := watch(t, gputest.New(t, ""), func(o *Options) {
				o.Probe, o.SMI = probe, []string{script(t, smiAnswers)}
			})
			up(t, w)
			v, err := w.Refresh(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if v.Snapshot.Source != gpu.SourceSMI || len(v.Snapshot.Devices) != 1 {
				t.Errorf("%+v", v.Snapshot)
			}
		})
	}
}

func TestHangingSMIIsEnded(t *testing.T) {
	w := watch(t, gputest.New(t, ""), func(o *Options) {
		o.Probe, o.SMI, o.CallLimit = nil, []string{script(t, "exec sleep 3600")}, 100*time.Millisecond
	})
	poll(t, "a word about it", func() bool { return strings.Contains(w.Down(), "nvidia-smi does not answer within 100ms") })
}

// Beside a process that the driver holds no other is started.
func TestNothingBesideTheUndead(t *testing.T) {
	c, err := launch([]string{script(t, "cat >/dev/null")}, os.Environ())
	if err != nil {
		t.Fatal(err)
	}
	w := New(Options{Probe: []string{"/nowhere"}, SMI: []string{"/nowhere"}})
	w.undead = c
	_, err = w.attempt(t.Context())
	if want := fmt.Sprintf("the driver holds a gpu-probe that was killed: the machine needs a restart (pid %d)", c.pid); err == nil || err.Error() != want {
		t.Errorf("%v, want %q", err, want)
	}
	if w.fallBack(err, 10) {
		t.Error("nvidia-smi is to hang as well")
	}
	if !c.end(true) {
		t.Fatal("it does not end")
	}
	if _, err := w.attempt(t.Context()); err == nil || errors.Is(err, errUndead) {
		t.Errorf("when it is gone: %v", err)
	}
}
