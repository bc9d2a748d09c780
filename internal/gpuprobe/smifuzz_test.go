package gpuprobe

import (
	"cmp"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/gpu"
)

// FuzzSMI: whatever nvidia-smi prints (a driver that fails prints sentences where
// numbers should be), a GPU that is made of it has a name by which a program finds
// it, is there once, and no quantity of it is impossible.
func FuzzSMI(f *testing.F) {
	f.Add("GPU-a, 0, Tesla T4, 550.54.15, 00000000:07:00.0, 15360, 3, 15357, Default, [N/A], 12, [N/A], 27.18, 0\n", "GPU-a, 4242, 300\nGPU-a, 7, [N/A]\n")
	f.Add("Unable to determine the device handle for GPU0000:08:00.0: GPU is lost.  Reboot the system to recover this GPU\n"+
		"[Unknown Error], 1, x, 1, 0000:0b:00.0, -1, 9223372036854775807, x, Exclusive_Process, Enabled, -, 99999999999999999999, nan, -1\n", ", -1, -1\n")
	f.Add("GPU-b, 1, \"H100, 80GB\n\"GPU-a\r\n", "\"")
	f.Add("No devices were found\n", "")
	f.Fuzz(func(t *testing.T, gpus, apps string) {
		s := parseSMI(time.Unix(1, 0).UTC(), rows([]byte(gpus)), rows([]byte(apps)))
		seen := map[gpu.DeviceID]bool{}
		for i, d := range s.Devices {
			if seen[d.ID] || !uuid.MatchString(string(d.ID)) || d.CUDAIndex != i || d.TotalBytes < 0 {
				t.Errorf("device %d: %+v", i, d)
			}
			seen[d.ID] = true
			m := d.Sample
			if negative(m.UsedBytes) || negative(m.FreeBytes) || m.PowerMilliW != nil && *m.PowerMilliW >= 1000*maxWatts {
				t.Errorf("impossible: %+v", m)
			}
			if !slices.IsSortedFunc(m.Processes, func(a, b gpu.Process) int { return cmp.Compare(a.PID, b.PID) }) {
				t.Errorf("not by pid: %+v", m.Processes)
			}
			for _, p := range m.Processes {
				if p.PID <= 0 || negative(p.UsedBytes) {
					t.Errorf("impossible: %+v", p)
				}
			}
		}
		if _, err := json.Marshal(s); err != nil {
			t.Errorf("it cannot be shown: %v", err)
		}
	})
}

func negative(n *int64) bool { return n != nil && *n < 0 }
