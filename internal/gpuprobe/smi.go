package gpuprobe

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/gpu"
)

// smi asks nvidia-smi once, and publishes what it says.
func (w *Watcher) smi(ctx context.Context) {
	at := time.Now().UTC()
	gpus, err := w.query(ctx, "--query-gpu="+strings.Join(gpuFields, ","))
	if err == nil {
		var apps [][]string
		if apps, err = w.query(ctx, "--query-compute-apps=gpu_uuid,pid,used_memory"); err == nil {
			w.publish(parseSMI(at, gpus, apps))
			return
		}
	}
	if ctx.Err() == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.complain(err, w.o.Period)
	}
}

var errSMI = errors.New("nvidia-smi does not answer")

// query runs nvidia-smi, which may hang like any user of the driver.
func (w *Watcher) query(ctx context.Context, what string) ([][]string, error) {
	if w.undead != nil && !w.undead.reap(0) {
		return nil, errUndead
	}
	c, err := launch(append(slices.Clone(w.o.SMI), what, "--format=csv,noheader,nounits"), w.o.Env)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.stdout.SetReadDeadline(time.Now()) })
	defer stop()
	err = c.stdout.SetReadDeadline(time.Now().Add(w.o.CallLimit))
	var out []byte
	if err == nil {
		out, err = io.ReadAll(c.stdout)
	}
	if !c.end(err == nil) {
		w.undead = c
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, fmt.Errorf("%w within %s", errSMI, w.o.CallLimit)
	case err != nil:
		return nil, fmt.Errorf("read nvidia-smi: %w", err)
	case !c.gone || c.status.ExitStatus() != 0:
		return nil, fmt.Errorf("nvidia-smi %s: %s", c.verdict(), bytes.TrimSpace(out))
	}
	return rows(out), nil
}

// rows are the lines of a table, cut at the commas: nvidia-smi puts nothing in
// quotes. A sentence between the lines is a row of another length.
func rows(out []byte) [][]string {
	var all [][]string
	for line := range strings.Lines(string(out)) {
		row := strings.Split(line, ",")
		for i := range row {
			row[i] = strings.TrimSpace(row[i])
		}
		all = append(all, row)
	}
	return all
}

// gpuFields are what is asked of each GPU; parseGPU reads them in this order.
var gpuFields = []string{
	"uuid", "index", "name", "driver_version", "pci.bus_id", "memory.total", "memory.used", "memory.free", "compute_mode",
	"mig.mode.current", "utilization.gpu", "temperature.gpu", "power.draw", "ecc.errors.uncorrected.volatile.total",
}

// parseSMI makes a snapshot of nvidia-smi's tables.
func parseSMI(at time.Time, gpus, apps [][]string) *gpu.Snapshot {
	s := &gpu.Snapshot{Format: gpu.FormatVersion, At: at, Source: gpu.SourceSMI, Devices: []gpu.Device{}}
	for _, row := range gpus {
		if len(row) != len(gpuFields) {
			continue // a sentence between the rows: "Unable to determine the device handle"
		}
		if !uuid.MatchString(row[0]) { // "[Unknown Error]": nobody can say which one a task would get
			if n := whole(row[1]); n != nil {
				s.Unreadable = append(s.Unreadable, gpu.Unreadable{Index: *n, Code: gpu.Unknown})
			}
			continue
		}
		if s.Device(gpu.DeviceID(row[0])) != nil {
			continue // it is there once, and is not given out twice
		}
		d := parseGPU(row, at)
		d.Sample.Processes = parseApps(row[0], apps)
		s.Driver.Version = row[3]
		s.Devices = append(s.Devices, d)
	}
	slices.SortStableFunc(s.Devices, func(a, b gpu.Device) int { return strings.Compare(a.PCI, b.PCI) })
	for i := range s.Devices {
		s.Devices[i].CUDAIndex = i
	}
	return s
}

// uuid is what a program finds a GPU by, and what its environment will say.
var uuid = regexp.MustCompile(`^GPU-[0-9A-Za-z-]+$`)

// parseApps returns those who compute on one GPU, by pid.
func parseApps(on string, apps [][]string) []gpu.Process {
	var list []gpu.Process
	for _, app := range apps {
		if len(app) != 3 || app[0] != on {
			continue
		}
		if pid, err := strconv.Atoi(app[1]); err == nil && pid > 0 {
			list = append(list, gpu.Process{PID: pid, UID: -1, GI: -1, CI: -1, UsedBytes: mib(app[2])})
		}
	}
	slices.SortStableFunc(list, func(a, b gpu.Process) int { return cmp.Compare(a.PID, b.PID) })
	return list
}

func parseGPU(row []string, at time.Time) gpu.Device {
	d := gpu.Device{
		ID: gpu.DeviceID(row[0]), Kind: gpu.Whole, Index: -1, Model: row[2], Minor: -1, NUMANode: -1, GI: -1, CI: -1,
		PCI: strings.ToLower(strings.TrimPrefix(row[4], "0000")), // eight digits of domain, where /sys has four
	}
	if n := whole(row[1]); n != nil {
		d.Index = *n
	}
	if total := mib(row[5]); total != nil {
		d.TotalBytes = *total
	}
	m := &d.Sample
	m.UsedBytes, m.FreeBytes, m.ProcessesAt = mib(row[6]), mib(row[7]), &at
	// Which drivers' nvidia-smi counts the reserve as used it does not say.
	m.UsedIncludesReserve = true
	m.ComputeMode = gpu.ComputeMode(strings.ToLower(strings.ReplaceAll(row[8], " ", "_")))
	switch row[9] {
	case "Enabled": // its instances are not in the table: nothing of it can be given out
		d.Kind, d.MIGMode = gpu.MIGParent, new(true)
	case "Disabled":
		d.MIGMode = new(false)
	}
	m.GPUPercent, m.TemperatureC = whole(row[10]), whole(row[11])
	// "nan" is a number for ParseFloat, and none for a GPU.
	if watts, err := strconv.ParseFloat(row[12], 64); err == nil && watts >= 0 && watts < maxWatts {
		m.PowerMilliW = new(uint64(watts * 1000))
	}
	if n, err := strconv.ParseUint(row[13], 10, 64); err == nil {
		m.ECCUncorrected = &n
	}
	return d
}

// whole is a number, or nil for "[N/A]" and its like.
func whole(s string) *int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return nil
	}
	return &n
}

// maxWatts is more than a machine takes.
const maxWatts = 1e6

func mib(s string) *int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64>>20 {
		return nil
	}
	return new(n << 20)
}
