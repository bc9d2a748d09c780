package main

import (
	"bufio"
	"debug/elf"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/gpu"
	"github.com/dspy-agent/dspy-agent/internal/gputest"
)

func TestMain(m *testing.M) { os.Exit(gputest.Main(m)) }

// patience of the tests: long enough for a busy machine, and only that long where
// something is broken.
const testPatience = 30 * time.Second

// once runs gpu-probe --once --json on a machine.
func once(t *testing.T, library string, m *gputest.Machine, env ...string) (*gpu.Snapshot, int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), gputest.Probe(t), "--once", "--json", "--library", library)
	cmd.Env = append(cmd.Environ(), env...)
	if m != nil {
		cmd.Env = append(cmd.Env, m.Env()...)
	}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	var r gpu.Report
	if err := json.Unmarshal(out, &r); err != nil || r.Snapshot == nil {
		t.Fatalf("exit %d, and it wrote %q: %v", cmd.ProcessState.ExitCode(), out, err)
	}
	return r.Snapshot, cmd.ProcessState.ExitCode()
}

func TestWithoutADriver(t *testing.T) {
	s, code := once(t, "/nowhere/libnvidia-ml.so.1", nil)
	if code != exitNoDriver || s.Driver.Code != gpu.LibraryNotFound || s.Driver.Problem == "" || len(s.Devices) != 0 {
		t.Errorf("exit %d, %+v", code, s)
	}
}

func TestStartsThatFail(t *testing.T) {
	for name, want := range map[string]int{"DRIVER_NOT_LOADED": exitNoDriver, "LIB_RM_VERSION_MISMATCH": exitBroken, "NO_PERMISSION": exitBroken, "UNKNOWN": exitBroken} {
		s, code := once(t, gputest.Library(t, gputest.Newest), gputest.New(t, "return.nvmlInit = "+name+"\n[gpu 0]\n"))
		if code != want || s.Driver.Code.String() != name || s.Driver.Problem == "" || len(s.Devices) != 0 {
			t.Errorf("%s: exit %d, %+v", name, code, s.Driver)
		}
	}
}

// Where symbols are bound at start, a process with one that is missing does not
// reach main.
func TestUnderBindNow(t *testing.T) {
	s, code := once(t, gputest.Library(t, gputest.Newest), gputest.New(t, gputest.GPUs(1)), "LD_BIND_NOW=1")
	if code != exitDone || len(s.Devices) != 1 {
		t.Errorf("exit %d, %+v", code, s)
	}
}

// No function of NVML is left for the dynamic linker, which would end the process
// when a driver lacks it.
func TestNoUndefinedFunctions(t *testing.T) {
	f, err := elf.Open(gputest.Probe(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	imported, err := f.ImportedSymbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range imported {
		if strings.HasPrefix(s.Name, "nvml") {
			t.Errorf("%s is undefined", s.Name)
		}
	}
	if libraries, err := f.ImportedLibraries(); err != nil || slices.ContainsFunc(libraries, func(l string) bool { return strings.Contains(l, "nvidia") }) {
		t.Errorf("linked with %v, %v", libraries, err)
	}
}

func TestOldDrivers(t *testing.T) {
	const config = "[gpu 0]\nproc = 4242 3GiB\nmemory_used = 3GiB\nmig = 0\n"
	for _, driver := range []int{470, 390} {
		s, code := once(t, gputest.Library(t, driver), gputest.New(t, config))
		if code != exitDone || len(s.Devices) != 1 {
			t.Fatalf("%d: exit %d, %+v", driver, code, s)
		}
		m := s.Devices[0].Sample
		if len(m.Failed) != 0 {
			t.Errorf("%d: what the driver lacks counts as failed: %v", driver, m.Failed)
		}
		if !m.UsedIncludesReserve || m.ReservedBytes != nil || *m.UsedBytes != 3<<30+600<<20 {
			t.Errorf("%d: memory %+v", driver, m)
		}
		if len(m.Processes) != 1 || m.Processes[0].PID != 4242 {
			t.Errorf("%d: processes %+v", driver, m.Processes)
		}
		if has := s.Devices[0].MIGMode != nil; has != (driver >= 470) {
			t.Errorf("%d: MIG mode known: %v", driver, has)
		}
		if m.ClockReasons == nil || (m.Remapped != nil) != (driver >= 470) {
			t.Errorf("%d: %+v", driver, m)
		}
	}
}

func TestOneOfEightLost(t *testing.T) {
	s, code := once(t, gputest.Library(t, gputest.Newest), gputest.New(t, strings.Replace(gputest.GPUs(8), "[gpu 5]", "[gpu 5]\nlost = 1", 1)))
	if code != exitDone || len(s.Devices) != 7 || !slices.Equal(s.Unreadable, []gpu.Unreadable{{Index: 5, Code: gpu.GPUIsLost}}) {
		t.Errorf("exit %d, %d devices, unreadable %v", code, len(s.Devices), s.Unreadable)
	}
}

// session is a running gpu-probe.
type session struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan gpu.Report
}

func start(t *testing.T, m *gputest.Machine) *session {
	t.Helper()
	s := &session{t: t, lines: make(chan gpu.Report)}
	s.cmd = exec.CommandContext(t.Context(), gputest.Probe(t), "--library", gputest.Library(t, gputest.Newest))
	s.cmd.Env = append(s.cmd.Environ(), m.Env()...)
	s.cmd.Stderr = os.Stderr
	var err error
	if s.stdin, err = s.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.lines)
		for in := bufio.NewScanner(stdout); in.Scan(); {
			var r gpu.Report
			if err := json.Unmarshal(in.Bytes(), &r); err != nil {
				t.Errorf("it wrote %q: %v", in.Text(), err)
			}
			s.lines <- r
		}
	}()
	if r := s.next(); r.Hello == nil || r.Hello.PID != s.cmd.Process.Pid || r.Hello.Format != gpu.FormatVersion {
		t.Fatalf("first line %+v", r)
	}
	return s
}

func (s *session) say(line string) {
	s.t.Helper()
	if _, err := io.WriteString(s.stdin, line+"\n"); err != nil {
		s.t.Fatal(err)
	}
}

func (s *session) next() gpu.Report {
	s.t.Helper()
	select {
	case r, ok := <-s.lines:
		if !ok {
			s.t.Fatal("it has ended")
		}
		return r
	case <-time.After(testPatience):
		s.t.Fatal("it says nothing")
		return gpu.Report{}
	}
}

// until returns the first line that is as wanted.
func (s *session) until(ok func(gpu.Report) bool) gpu.Report {
	s.t.Helper()
	for begun := time.Now(); ; {
		r := s.next()
		if ok(r) {
			return r
		}
		if time.Since(begun) > testPatience {
			s.t.Fatalf("it only says things like %+v", r)
		}
	}
}

func isSnapshot(r gpu.Report) bool { return r.Snapshot != nil }

// ends waits for the process, whatever it still says.
func (s *session) ends() {
	s.t.Helper()
	deadline := time.After(testPatience)
	for open := true; open; {
		select {
		case _, open = <-s.lines:
		case <-deadline:
			s.t.Fatal("it does not end")
		}
	}
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("it ended with %v", err)
	}
}

func TestServes(t *testing.T) {
	m := gputest.New(t, gputest.GPUs(1))
	s := start(t, m)
	s.say("once")
	if r := s.next(); r.Snapshot == nil || r.Snapshot.Seq != 1 || len(r.Snapshot.Devices) != 1 {
		t.Fatalf("answer to once: %+v", r)
	}
	s.say("what is this?") // a newer parent may say more
	m.Set(gputest.GPUs(2))
	s.say("period 10ms")
	s.until(func(r gpu.Report) bool {
		return r.Snapshot != nil && r.Snapshot.Seq >= 4 && len(r.Snapshot.Devices) == 2
	})
	m.Event("xid 1 79")
	if r := s.until(func(r gpu.Report) bool { return r.Event != nil }); r.Event.XID != 79 || r.Event.Device != gpu.DeviceID(gputest.UUID(1)) {
		t.Errorf("event %+v", r.Event)
	}
	s.say("quit")
	s.ends()
}

func TestEndsWithItsInput(t *testing.T) {
	s := start(t, gputest.New(t, gputest.GPUs(1)))
	s.say("period 5ms")
	s.until(isSnapshot)
	if err := s.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	s.ends()
}

// A call that does not come back is named, and does not keep the process.
func TestHangingDriver(t *testing.T) {
	m := gputest.New(t, "[gpu 0]\ndelay_us.nvmlDeviceGetPowerUsage = 3600000000\n")
	s := start(t, m)
	s.say("once")
	var last int64
	for range 2 {
		b := s.until(func(r gpu.Report) bool { return r.Busy != nil }).Busy
		if b.Call != "nvmlDeviceGetPowerUsage" || b.Device != gpu.DeviceID(gputest.UUID(0)) || b.ForMillis <= last {
			t.Errorf("busy with %+v", b)
		}
		last = b.ForMillis
	}
	if err := s.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	s.ends()
}

// Even the driver's start may hang.
func TestHangingStart(t *testing.T) {
	s := start(t, gputest.New(t, "delay_us.nvmlInit = 3600000000\n[gpu 0]\n"))
	s.say("once")
	if b := s.until(func(r gpu.Report) bool { return r.Busy != nil }).Busy; b.Call != "nvmlInit" {
		t.Errorf("busy with %+v", b)
	}
	s.say("quit")
	s.ends()
}

// When waiting for events fails, that is told, and a new wait follows.
func TestEventsAreHeardAgain(t *testing.T) {
	m := gputest.New(t, gputest.GPUs(1))
	s := start(t, m)
	s.say("once")
	s.until(isSnapshot)
	m.Event("error 999")
	if e := s.until(func(r gpu.Report) bool { return r.Event != nil }).Event; e.Kind != gpu.EventLost || e.Code != gpu.Unknown {
		t.Errorf("event %+v", e)
	}
	s.say("period 20ms")
	s.until(func(r gpu.Report) bool {
		if r.Snapshot != nil {
			m.Event("xid 0 31") // one of them comes after the new wait began
		}
		return r.Event != nil && r.Event.XID == 31
	})
	s.say("quit")
	s.ends()
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"once"}, {"--twice"}} {
		if code := run(args, strings.NewReader(""), io.Discard, io.Discard); code != exitUsage {
			t.Errorf("%v: exit %d", args, code)
		}
	}
}

func TestDescription(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), gputest.Probe(t), "--once", "--library", gputest.Library(t, gputest.Newest))
	cmd.Env = append(cmd.Environ(), gputest.New(t, "[gpu 0]\nmig = 1\n[mig 0 0]\n[gpu 1]\nlost = 1\n").Env()...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"driver 550.54.15", gputest.UUID(0) + "  NVIDIA A100-SXM4-80GB", "1g.10gb (instance 1/0 of " + gputest.UUID(0), "GPU with index 1 cannot be read: GPU_IS_LOST",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("it lacks %q:\n%s", want, out)
		}
	}
}
