package metrics

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dspy-agent/dspy-agent/gpu"
)

// gpus tells a scrape of this machine's GPUs as they were seen last. What the driver
// does not tell is not there: it is no zero.
type gpus struct{ *Metrics }

// reading is a number of a GPU.
type reading struct {
	desc *prometheus.Desc
	of   func(*gpu.Device) (float64, bool)
}

var gpuLabels = []string{"gpu", "index"}

func newReading(name, help string, of func(*gpu.Device) (float64, bool)) reading {
	return reading{prometheus.NewDesc(name, help, gpuLabels, nil), of}
}

var readings = []reading{
	newReading("dspy_gpu_memory_bytes", "Memory of the GPU or MIG instance.", func(d *gpu.Device) (float64, bool) { return float64(d.TotalBytes), true }),
	newReading("dspy_gpu_memory_used_bytes", "Of it, in use by whomever.", func(d *gpu.Device) (float64, bool) { return known(d.Sample.UsedBytes) }),
	newReading("dspy_gpu_use_ratio", "Share of the last moment in which it computed, from 0 to 1.", func(d *gpu.Device) (float64, bool) {
		v, ok := known(d.Sample.GPUPercent)
		return v / 100, ok
	}),
	newReading("dspy_gpu_temperature_celsius", "Its temperature.", func(d *gpu.Device) (float64, bool) { return known(d.Sample.TemperatureC) }),
	newReading("dspy_gpu_power_watts", "What it draws.", func(d *gpu.Device) (float64, bool) {
		v, ok := known(d.Sample.PowerMilliW)
		return v / 1000, ok
	}),
}

func known[T int | int64 | uint64](v *T) (float64, bool) {
	if v == nil {
		return 0, false
	}
	return float64(*v), true
}

var (
	gpuStateDesc = prometheus.NewDesc("dspy_gpu_state", "1 for the state that the GPU or MIG instance is in, as dspy-agent gpus tells it, else 0.", append([]string{"state"}, gpuLabels...), nil)
	gpuTasksDesc = prometheus.NewDesc("dspy_gpu_tasks", "Tasks that hold it.", gpuLabels, nil)
)

var gpuStates = []gpu.State{
	gpu.Free, gpu.Shared, gpu.Held, gpu.CoolingOff, gpu.Foreign, gpu.Prohibited, gpu.Unread, gpu.Drained, gpu.Doubted, gpu.Ill, gpu.Away, gpu.Cut,
}

// Describe implements prometheus.Collector.
func (g gpus) Describe(out chan<- *prometheus.Desc) {
	out <- gpuStateDesc
	out <- gpuTasksDesc
	for _, r := range readings {
		out <- r.desc
	}
}

// Collect implements prometheus.Collector.
func (g gpus) Collect(out chan<- prometheus.Metric) {
	if g.opts.GPUs == nil {
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, v := range g.opts.GPUs() {
		id, index := string(v.ID), ""
		if v.Device != nil {
			index = strconv.Itoa(v.Device.Index)
			for _, r := range readings {
				if n, ok := r.of(v.Device); ok {
					gauge(r.desc, n, id, index)
				}
			}
		}
		gauge(gpuTasksDesc, float64(len(v.Holders)), id, index)
		for _, s := range gpuStates {
			is := 0.0
			if s == v.State {
				is = 1
			}
			gauge(gpuStateDesc, is, string(s), id, index)
		}
	}
}
