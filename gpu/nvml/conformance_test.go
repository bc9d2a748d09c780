//go:build linux && cgo && (amd64 || arm64)

package nvml

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	nv "github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/dspy-agent/dspy-agent/gpu"
	"github.com/dspy-agent/dspy-agent/internal/gputest"
)

// The conformance test asks the driver through this package, through gpu-probe
// and through nvidia-smi, and compares. It only reads. "make test-gpu" builds it
// into a folder that runs on a machine without Go; without its flags it runs on
// the fake, so that it is itself tried.
var conformance struct {
	library, probe, smi, hold, report string
	rounds                            int
}

func init() { //nolint:gochecknoinits // flags of a test binary have to be there before main
	flag.StringVar(&conformance.library, "conformance.library", "", "`PATH` of libnvidia-ml.so.1; \"-\" = where systems keep it")
	flag.StringVar(&conformance.probe, "conformance.probe", "", "`PATH` of gpu-probe")
	flag.StringVar(&conformance.smi, "conformance.smi", "nvidia-smi", "`PATH` of nvidia-smi")
	flag.StringVar(&conformance.hold, "conformance.hold", "", "`PATH` of the program that holds GPU memory")
	flag.StringVar(&conformance.report, "conformance.report", "", "`FOLDER` for the report")
	flag.IntVar(&conformance.rounds, "conformance.rounds", 200, "snapshots to measure")
}

// finding is what the conformance test found out, for people and for the next
// version of docs/gpu.md.
type finding struct {
	Driver     gpu.Driver      `json:"driver"`
	Snapshot   *gpu.Snapshot   `json:"snapshot"`
	Lacking    []string        `json:"functions_lacking"`
	StartMs    float64         `json:"nvml_start_ms"`
	First      cost            `json:"first_snapshot"`
	Whole      cost            `json:"snapshots"`
	WithWork   *cost           `json:"snapshots_with_a_process,omitempty"`
	Calls      map[string]cost `json:"calls"`
	CallsWork  map[string]cost `json:"calls_with_a_process,omitempty"`
	Answers    map[string]int  `json:"answers"` // "function: CODE" -> how often, but for SUCCESS
	JSONBytes  int             `json:"snapshot_json_bytes"`
	Probe      *probed         `json:"probe,omitempty"`
	Process    *seen           `json:"process,omitempty"`
	Others     map[string]cost `json:"calls_not_used"`
	Events     string          `json:"events"`
	Mismatches []string        `json:"mismatches"`
}

// cost is how long something took, in microseconds.
type cost struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50_us"`
	P99 float64 `json:"p99_us"`
	Max float64 `json:"max_us"`
}

// probed is gpu-probe seen from outside.
type probed struct {
	StartToFirstMs float64 `json:"start_to_first_snapshot_ms"`
	RSSKiB         int     `json:"rss_kib"`
	PrivateKiB     int     `json:"private_kib"`
	Threads        int     `json:"threads"`
	CPUMsPer100    float64 `json:"cpu_ms_per_100_snapshots"`
	Once           cost    `json:"once_to_answer"`
}

// seen is a process that we started, as the driver shows it.
type seen struct {
	PID      int      `json:"pid"`
	MiB      int      `json:"asked_mib"`
	Listed   bool     `json:"listed"`
	AsPID    int      `json:"as_pid"`
	AsBytes  *int64   `json:"as_bytes"`
	NewPIDs  []int    `json:"new_pids"`
	Delta    int64    `json:"used_bytes_delta"`
	UntilMs  float64  `json:"ms_until_listed"`
	GoneMs   float64  `json:"ms_until_memory_back"`
	SMILines []string `json:"nvidia_smi"`
}

func TestConformance(t *testing.T) {
	switch conformance.library {
	case "":
		_, o := on(t, "[gpu 0]\nproc = 4242 30GiB\nmemory_used = 30GiB\nnvlink.1 = 12\n[gpu 1]\nnvlink.0 = 12\n")
		conformance.library, conformance.smi, conformance.probe = o.Library, "testdata/nvidia-smi", gputest.Probe(t)
	case "-":
		conformance.library = ""
	}
	f := &finding{Answers: map[string]int{}}
	var calls *ledger
	options := Options{Library: conformance.library, Observe: func(call string, took time.Duration, code gpu.Code) {
		calls.add(call, took)
		if code != gpu.Success {
			f.Answers[call+": "+code.String()]++
		}
	}}
	calls = newLedger()
	begun := time.Now()
	r := New(options)
	f.Driver = r.Open()
	f.StartMs = float64(time.Since(begun).Microseconds()) / 1000
	defer r.Close()
	if f.Driver.Code != gpu.Success {
		t.Fatalf("no driver: %+v", f.Driver)
	}
	f.Lacking = lacking(t, r)
	f.First, f.Snapshot = measure(r, 1)
	f.Whole, _ = measure(r, conformance.rounds)
	f.Calls = calls.costs()
	f.others(r)
	f.events(r)
	text, err := json.Marshal(f.Snapshot)
	if err != nil {
		t.Fatal(err)
	}
	f.JSONBytes = len(text)
	f.compareSMI(t)
	if conformance.hold != "" {
		calls = newLedger()
		f.hold(t, r)
		f.CallsWork = calls.costs()
	}
	if conformance.probe != "" {
		f.probe(t)
	}
	f.write(t)
	for _, m := range f.Mismatches {
		t.Error(m)
	}
}

func (f *finding) mismatch(format string, args ...any) {
	f.Mismatches = append(f.Mismatches, fmt.Sprintf(format, args...))
}

// ledger collects how long calls took.
type ledger struct{ took map[string][]time.Duration }

func newLedger() *ledger { return &ledger{took: map[string][]time.Duration{}} }

func (l *ledger) add(call string, took time.Duration) { l.took[call] = append(l.took[call], took) }

func (l *ledger) costs() map[string]cost {
	out := map[string]cost{}
	for call, took := range l.took {
		out[call] = costOf(took)
	}
	return out
}

func costOf(took []time.Duration) cost {
	slices.Sort(took)
	us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
	n := len(took)
	return cost{N: n, P50: us(took[n/2]), P99: us(took[n*99/100]), Max: us(took[n-1])}
}

func measure(r *Reader, rounds int) (cost, *gpu.Snapshot) {
	var s *gpu.Snapshot
	took := make([]time.Duration, rounds)
	for i := range took {
		begun := time.Now()
		s = r.Snapshot()
		took[i] = time.Since(begun)
	}
	return costOf(took), s
}

// lacking lists the functions that go-nvml knows and this driver has not.
func lacking(t *testing.T, r *Reader) []string {
	t.Helper()
	var out []string
	for _, name := range symbols(t) {
		if r.lib.Extensions().LookupSymbol(name) != nil {
			out = append(out, name)
		}
	}
	return out
}

// others measures calls that a snapshot leaves out, so that leaving them out can
// be judged.
func (f *finding) others(r *Reader) {
	took := newLedger()
	for range 20 {
		for _, d := range r.known {
			for name, call := range map[string]func() nv.Return{
				"nvmlDeviceGetGraphicsRunningProcesses":   func() nv.Return { _, ret := d.handle.GetGraphicsRunningProcesses(); return ret },
				"nvmlDeviceGetMPSComputeRunningProcesses": func() nv.Return { _, ret := d.handle.GetMPSComputeRunningProcesses(); return ret },
				"nvmlDeviceGetProcessUtilization":         func() nv.Return { _, ret := d.handle.GetProcessUtilization(0); return ret },
				"nvmlDeviceGetAccountingMode":             func() nv.Return { _, ret := d.handle.GetAccountingMode(); return ret },
				"nvmlDeviceGetFanSpeed":                   func() nv.Return { _, ret := d.handle.GetFanSpeed(); return ret },
				"nvmlDeviceGetBAR1MemoryInfo":             func() nv.Return { _, ret := d.handle.GetBAR1MemoryInfo(); return ret },
			} {
				begun := time.Now()
				ret := call()
				took.add(name, time.Since(begun))
				if ret != nv.SUCCESS {
					f.Answers[name+": "+gpu.Code(ret).String()]++
				}
			}
		}
	}
	f.Others = took.costs()
}

// events waits once, in vain.
func (f *finding) events(r *Reader) {
	e := r.Listen()
	if e == nil {
		f.Events = "none"
		return
	}
	begun := time.Now()
	got := e.Wait(300 * time.Millisecond)
	f.Events = fmt.Sprintf("registered on %d GPUs; a wait of 300 ms took %d ms and brought %+v", len(e.devices), time.Since(begun).Milliseconds(), got)
	e.Close()
}

// smi runs a query of nvidia-smi.
func smi(t *testing.T, args ...string) [][]string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), conformance.smi, append(args, "--format=csv,noheader,nounits")...).Output()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", conformance.smi, args, err, out)
	}
	in := csv.NewReader(strings.NewReader(string(out)))
	in.TrimLeadingSpace = true
	rows, err := in.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// compareSMI holds the snapshot against what nvidia-smi says.
func (f *finding) compareSMI(t *testing.T) {
	t.Helper()
	fields := "uuid,index,name,driver_version,pci.bus_id,memory.total,compute_mode,persistence_mode,mig.mode.current,ecc.mode.current,temperature.gpu"
	rows := smi(t, "--query-gpu="+fields)
	whole := 0
	for i := range f.Snapshot.Devices {
		if f.Snapshot.Devices[i].Kind != gpu.MIG {
			whole++
		}
	}
	if whole != len(rows) {
		f.mismatch("%d GPUs here, %d for nvidia-smi", whole, len(rows))
	}
	for _, row := range rows {
		d := f.Snapshot.Device(gpu.DeviceID(row[0]))
		if d == nil {
			f.mismatch("nvidia-smi has %s, the snapshot has not", row[0])
			continue
		}
		f.compareGPU(d, row)
	}
	ours := map[string]bool{}
	for _, d := range f.Snapshot.Devices {
		for _, p := range d.Sample.Processes {
			ours[fmt.Sprint(d.ID, " ", p.PID)] = true
		}
	}
	for _, row := range smi(t, "--query-compute-apps=gpu_uuid,pid,used_memory") {
		if len(row) > 1 && !ours[row[0]+" "+row[1]] {
			f.mismatch("nvidia-smi has process %s on %s, the snapshot has not", row[1], row[0])
		}
	}
}

func (f *finding) compareGPU(d *gpu.Device, row []string) {
	same := func(what, ours, smi string) {
		if !strings.EqualFold(ours, smi) {
			f.mismatch("%s of %s: %q here, %q for nvidia-smi", what, d.ID, ours, smi)
		}
	}
	onOff := func(b *bool) string {
		switch {
		case b == nil:
			return "[N/A]"
		case *b:
			return "Enabled"
		default:
			return "Disabled"
		}
	}
	same("index", strconv.Itoa(d.Index), row[1])
	same("name", d.Model, row[2])
	same("driver", f.Driver.Version, row[3])
	same("PCI address", "0000"+d.PCI, row[4])
	same("memory", strconv.FormatInt(d.TotalBytes>>20, 10), row[5])
	same("compute mode", string(d.Sample.ComputeMode), strings.ReplaceAll(row[6], " ", "_"))
	same("persistence", onOff(d.Persistence), row[7])
	same("MIG mode", onOff(d.MIGMode), row[8])
	same("ECC", onOff(d.ECC), row[9])
	if d.Sample.TemperatureC == nil {
		same("temperature", "", row[10])
	} else if n, err := strconv.Atoi(row[10]); err != nil || max(n-*d.Sample.TemperatureC, *d.Sample.TemperatureC-n) > 5 {
		same("temperature", strconv.Itoa(*d.Sample.TemperatureC), row[10])
	}
}

// hold starts a process that holds memory, and looks how the driver shows it.
func (f *finding) hold(t *testing.T, r *Reader) {
	t.Helper()
	const mib = 1024
	before := r.Snapshot()
	p := &seen{MiB: mib}
	f.Process = p
	cmd := exec.CommandContext(t.Context(), conformance.hold, strconv.Itoa(mib))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.PID = cmd.Process.Pid
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		_ = stdin.Close()
		f.mismatch("no process to look at: %v, %v", err, cmd.Wait())
		return
	}
	begun := time.Now()
	known := pids(before)
	during := await(r, 5*time.Second, func(s *gpu.Snapshot) bool { return len(pids(s)) > len(known) })
	p.UntilMs = float64(time.Since(begun).Microseconds()) / 1000
	for id, proc := range pids(during) {
		if _, was := known[id]; was {
			continue
		}
		p.NewPIDs = append(p.NewPIDs, proc.PID)
		p.AsPID, p.AsBytes = proc.PID, proc.UsedBytes
	}
	p.Listed = slices.Contains(p.NewPIDs, p.PID)
	p.Delta = used(during) - used(before)
	for _, row := range smi(t, "--query-compute-apps=gpu_uuid,pid,process_name,used_memory") {
		p.SMILines = append(p.SMILines, strings.Join(row, ", "))
	}
	whole, _ := measure(r, conformance.rounds)
	f.WithWork = &whole
	_ = stdin.Close()
	begun = time.Now()
	if err := cmd.Wait(); err != nil {
		f.mismatch("the process that held memory: %v", err)
	}
	await(r, 10*time.Second, func(s *gpu.Snapshot) bool { return used(s) < used(during)-mib<<19 })
	p.GoneMs = float64(time.Since(begun).Microseconds()) / 1000
	if p.Delta < mib<<20 {
		f.mismatch("a process took %d MiB, and the memory in use rose by %d", mib, p.Delta>>20)
	}
}

// await takes snapshots until one is as wanted, or the time is over.
func await(r *Reader, limit time.Duration, ok func(*gpu.Snapshot) bool) *gpu.Snapshot {
	for begun := time.Now(); ; {
		s := r.Snapshot()
		if ok(s) || time.Since(begun) > limit {
			return s
		}
	}
}

func pids(s *gpu.Snapshot) map[string]gpu.Process {
	out := map[string]gpu.Process{}
	for _, d := range s.Devices {
		for _, p := range d.Sample.Processes {
			out[fmt.Sprint(d.ID, p.PID)] = p
		}
	}
	return out
}

func used(s *gpu.Snapshot) (sum int64) {
	for _, d := range s.Devices {
		if d.Kind != gpu.MIG && d.Sample.UsedBytes != nil {
			sum += *d.Sample.UsedBytes
		}
	}
	return sum
}

// probe runs gpu-probe, and looks at it from outside.
func (f *finding) probe(t *testing.T) {
	t.Helper()
	args := []string{}
	if conformance.library != "" {
		args = append(args, "--library", conformance.library)
	}
	begun := time.Now()
	cmd := exec.CommandContext(t.Context(), conformance.probe, args...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(stdout)
	f.Probe = &probed{}
	first := once(t, stdin, lines)
	f.Probe.StartToFirstMs = float64(time.Since(begun).Microseconds()) / 1000
	if first.Driver != f.Driver || len(first.Devices) != len(f.Snapshot.Devices) {
		f.mismatch("gpu-probe saw %+v with %d devices, this process %+v with %d", first.Driver, len(first.Devices), f.Driver, len(f.Snapshot.Devices))
	}
	cpu := ticks(t, cmd.Process.Pid)
	took := make([]time.Duration, 100)
	for i := range took {
		begun := time.Now()
		once(t, stdin, lines)
		took[i] = time.Since(begun)
	}
	f.Probe.Once = costOf(took)
	f.Probe.CPUMsPer100 = float64(ticks(t, cmd.Process.Pid)-cpu) * 10
	status := procFile(t, cmd.Process.Pid, "status")
	f.Probe.RSSKiB, f.Probe.Threads = field(status, "VmRSS:"), field(status, "Threads:")
	f.Probe.PrivateKiB = field(status, "RssAnon:")
	_ = stdin.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			f.mismatch("gpu-probe ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		f.mismatch("gpu-probe did not end when its standard input did")
		_ = cmd.Process.Kill()
		<-ended
	}
}

// once asks gpu-probe for a snapshot.
func once(t *testing.T, stdin io.Writer, lines *bufio.Reader) *gpu.Snapshot {
	t.Helper()
	if _, err := fmt.Fprintln(stdin, "once"); err != nil {
		t.Fatal(err)
	}
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			t.Fatalf("gpu-probe: %v", err)
		}
		var r gpu.Report
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("gpu-probe wrote %q: %v", line, err)
		}
		if r.Snapshot != nil {
			return r.Snapshot
		}
	}
}

func procFile(t *testing.T, pid int, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// ticks is the CPU time of a process, in hundredths of a second.
func ticks(t *testing.T, pid int) int {
	t.Helper()
	stat := procFile(t, pid, "stat")
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return user + system
}

// field is the number behind a name in /proc/PID/status.
func field(status, name string) int {
	_, rest, _ := strings.Cut(status, name)
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return -1
	}
	n, _ := strconv.Atoi(fields[0])
	return n
}

// write writes the report, if there is a folder for it, and the log.
func (f *finding) write(t *testing.T) {
	t.Helper()
	text, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if conformance.report != "" {
		if err := os.WriteFile(filepath.Join(conformance.report, "report.json"), append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(conformance.report, "report.txt"), []byte(f.text()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Log("\n" + f.text())
}

func (f *finding) text() string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	say("driver %s, NVML %s, CUDA %s, %s; %d functions lacking", f.Driver.Version, f.Driver.NVML, f.Driver.CUDA, f.Driver.Library, len(f.Lacking))
	for _, d := range f.Snapshot.Devices {
		say("%s %s %s %s", d.Kind, d.ID, d.Model, d.PCI)
	}
	say("start of NVML %.1f ms, first snapshot %.1f ms; snapshot p50 %.0f us, p99 %.0f us, max %.0f us; %d bytes of JSON",
		f.StartMs, f.First.P50/1000, f.Whole.P50, f.Whole.P99, f.Whole.Max, f.JSONBytes)
	if f.WithWork != nil {
		say("with a process: p50 %.0f us, p99 %.0f us, max %.0f us", f.WithWork.P50, f.WithWork.P99, f.WithWork.Max)
	}
	calls := slices.Collect(maps.Keys(f.Calls))
	slices.SortFunc(calls, func(a, b string) int { return int(f.Calls[b].P50*1000) - int(f.Calls[a].P50*1000) })
	for _, call := range calls {
		c := f.Calls[call]
		say("  %-48s n %5d  p50 %9.1f us  p99 %9.1f us  max %9.1f us", call, c.N, c.P50, c.P99, c.Max)
	}
	for call, c := range f.Others {
		say("  not used: %-38s n %5d  p50 %9.1f us  p99 %9.1f us  max %9.1f us", call, c.N, c.P50, c.P99, c.Max)
	}
	for what, n := range f.Answers {
		say("  answer %s: %d times", what, n)
	}
	say("events: %s", f.Events)
	if f.Probe != nil {
		say("gpu-probe: %+v", *f.Probe)
	}
	if f.Process != nil {
		say("process: %+v", *f.Process)
	}
	for _, m := range f.Mismatches {
		say("MISMATCH: %s", m)
	}
	return b.String()
}
