package gpuprobe

import (
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/gpu"
)

func TestParseSMI(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s := parseSMI(at, [][]string{
		{"Unable to determine the device handle for GPU0000:08:00.0: GPU is lost.  Reboot the system to recover this GPU"},
		{"GPU-b", "1", "NVIDIA A100-SXM4-80GB", "550.54.15", "00000000:0B:00.0", "81920", "4", "81916", "Exclusive_Process", "Enabled", "[N/A]", "40", "60.5", "2"},
		{"GPU-a", "0", "Tesla T4", "550.54.15", "00000000:07:00.0", "15360", "3", "15357", "Default", "[N/A]", "12", "[N/A]", "[N/A]", "[N/A]"},
	}, [][]string{{"GPU-a", "4242", "300"}, {"GPU-a", "4243", "[N/A]"}, {"GPU-c", "1", "1"}})
	if len(s.Devices) != 2 || s.Source != gpu.SourceSMI || s.Driver.Version != "550.54.15" || !s.At.Equal(at) {
		t.Fatalf("%+v", s)
	}
	a, b := s.Devices[0], s.Devices[1]
	if a.ID != "GPU-a" || a.PCI != "0000:07:00.0" || a.CUDAIndex != 0 || a.Kind != gpu.Whole || a.TotalBytes != 15360<<20 || a.MIGMode != nil {
		t.Errorf("%+v", a)
	}
	if m := a.Sample; *m.UsedBytes != 3<<20 || *m.FreeBytes != 15357<<20 || *m.GPUPercent != 12 || m.TemperatureC != nil || m.PowerMilliW != nil || m.ECCUncorrected != nil {
		t.Errorf("what is not known is made up: %+v", m)
	}
	if p := a.Sample.Processes; len(p) != 2 || p[0].PID != 4242 || *p[0].UsedBytes != 300<<20 || p[1].UsedBytes != nil {
		t.Errorf("processes %+v", p)
	}
	if b.Kind != gpu.MIGParent || b.PCI != "0000:0b:00.0" || b.Sample.ComputeMode != gpu.ComputeExclusive || *b.Sample.PowerMilliW != 60500 || *b.Sample.ECCUncorrected != 2 {
		t.Errorf("%+v", b)
	}
}

func TestProcFiles(t *testing.T) {
	if got := uid("Name:\tx\nUid:\t1001\t0\t0\t0\n"); got != 1001 {
		t.Errorf("uid %d", got)
	}
	if got := uid(""); got != -1 {
		t.Errorf("uid of nothing %d", got)
	}
	if got := cgroup("0::/user.slice/x\n"); got != "/user.slice/x" {
		t.Errorf("v2: %q", got)
	}
	if got := cgroup("5:devices:/slurm/uid_1/job_42/step_0\n4:cpu,cpuacct:/\n"); got != "/slurm/uid_1/job_42/step_0" {
		t.Errorf("v1: %q", got)
	}
	const none = 1<<22 + 1 // above the kernel's highest pid
	if p := lookUp(none); !p.Gone || p.UID != -1 {
		t.Errorf("nobody is %+v", p)
	}
}
