package slurm

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func recorded(t testing.TB, version, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", version, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestRecordedSettings: those of four releases. See testdata/README.md for where they are from.
func TestRecordedSettings(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]Settings{
		"22.05": {"testbed", "22.05.8", 10 * time.Second, 300 * time.Second, 3 * time.Second, false},
		"23.02": {"demo", "23.02.7", 30 * time.Second, time.Minute, time.Minute, true},
		"25.11": {"linux", "25.11.4", 10 * time.Second, 300 * time.Second, 30 * time.Second, false},
	} {
		if got := parseSettings(recorded(t, version, "config.txt")); got != want {
			t.Errorf("%s: %+v, want %+v", version, got, want)
		}
	}
}

// TestRecordedQueue: every state and reason comes out in words, and means what it means.
func TestRecordedQueue(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]struct {
		jobs, others, strange int
		phases                map[phase]int
	}{
		"22.05": {12, 2, 0, map[phase]int{waits: 4, works: 5, gone: 3}},
		"24.05": {21, 1, 1, map[phase]int{waits: 8, works: 2, leaves: 1, gone: 9, unknown: 1}},
	} {
		jobs, others := 0, 0
		phases := map[phase]int{}
		for line := range strings.Lines(recorded(t, version, "squeue.txt")) {
			j, ok := parseJob(strings.TrimSuffix(line, "\n"))
			if !ok {
				others++ // arrays, and parts of jobs
				continue
			}
			if ref, ours := refOf("q", j.Name); !ours || ref.Attempt != 1 {
				t.Errorf("%s: %q is no name of ours", version, j.Name)
			}
			jobs++
			phases[j.State.phase()]++
			text := reasonText(j, false, time.Unix(1795840000, 0))
			if strings.ContainsAny(text, "_|") || !strings.HasPrefix(text, "Slurm job "+j.ID) {
				t.Errorf("%s: %s", version, text)
			}
			if j.State == "RUNNING" && (j.Start.IsZero() || j.Nodes == "") {
				t.Errorf("%s: %+v", version, j)
			}
		}
		if jobs != want.jobs || others != want.others || !reflect.DeepEqual(phases, want.phases) {
			t.Errorf("%s: %d jobs and %d others in %v", version, jobs, others, phases)
		}
	}
	for line, want := range map[string]string{
		"102|n|PENDING|gpu|N/A||(QOSMaxGRESPerUser)":                          "Slurm job 102 waits: you use as many GPUs as the quality of service allows",
		"103|n|PENDING|gpu|N/A||ReqNodeNotAvail, UnavailableNodes:g[01-03]":   "Slurm job 103 waits: a node that it needs is down, drained or reserved (UnavailableNodes:g[01-03])",
		"105|n|REQUEUE_HOLD|gpu|N/A||launch failed requeued held":             "Slurm job 105 waits: it could not be started, and is held: an administrator has to look at the node",
		"9|n|PENDING|gpu|N/A||Nodes required for job are DOWN, DRAINED or so": "Slurm job 9 waits: the nodes that it needs are down, drained or reserved for others",
	} {
		j, ok := parseJob(line)
		if got := reasonText(j, false, time.Time{}); !ok || got != want {
			t.Errorf("%s\n%s, want\n%s", line, got, want)
		}
	}
	again := Job{ID: "9", State: "PENDING", Reason: "BeginTime"}
	if got := reasonText(again, true, time.Time{}); got != "Slurm job 9 was put back into the line, and waits: its start time has not come" {
		t.Error(got)
	}
}

// TestRecordedPartitions: what there is, and what of it is free.
func TestRecordedPartitions(t *testing.T) {
	t.Parallel()
	main := Partition{Name: "main", Default: true, State: "UP", MaxTime: "7-00:00:00", DefaultTime: "01:00:00", Nodes: 4, NodesUp: 3, CPUs: 64, CPUsFree: 28, GPUs: []GPUCount{{"h100", 16, 1}}}
	if got := partitionsOf(recorded(t, "22.05", "partition.txt"), recorded(t, "22.05", "sinfo.txt")); len(got) != 3 || !reflect.DeepEqual(got[0], main) {
		t.Errorf("%+v", got)
	}
	want := []Partition{
		{Name: "debug", Default: true, State: "UP", MaxTime: "01:00:00", MaxNodes: "3", Nodes: 2, NodesUp: 2, CPUs: 96, CPUsFree: 80, GPUs: []GPUCount{{"a100", 8, 5}}},
		{Name: "long", State: "DOWN", DefaultTime: "1-00:00:00", Nodes: 1, CPUs: 64},
	}
	if got := partitionsOf(recorded(t, "23.02", "partition.txt"), recorded(t, "23.02", "sinfo.txt")); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	want = []Partition{{Name: "cpu", Default: true, State: "UP", Nodes: 2, NodesUp: 2, CPUs: 24, CPUsFree: 20}, {Name: "gpu", State: "UP"}}
	if got := partitionsOf(recorded(t, "25.11", "partition.txt"), recorded(t, "25.11", "sinfo.txt")); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	got := partitionsOf("PartitionName=gpu State=UP\nPartitionName=cloud State=UP\n", recorded(t, "24.05", "sinfo.txt"))
	want = []Partition{
		{Name: "gpu", State: "UP", Nodes: 7, NodesUp: 4, CPUs: 896, CPUsFree: 320, GPUs: []GPUCount{
			{"nvidia_h100_80gb_hbm3", 8, 3}, {"", 4, 3}, {"rtx_3090", 1, 1}, {"gtx_1080", 2, 1}, {"a100", 12, 0}, {"a100_1g.5gb", 7, 0},
		}},
		{Name: "cloud", State: "UP", Nodes: 2, NodesUp: 2, CPUs: 32, CPUsFree: 24},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
}

// TestRecordedRefusals: what sbatch says is taken for the answer that it is, and --test-only
// for the promise that it is not.
func TestRecordedRefusals(t *testing.T) {
	t.Parallel()
	said := map[string]string{}
	for line := range strings.Lines(recorded(t, "22.05", "sbatch-refused.txt")) {
		option, text, _ := strings.Cut(line, ": ")
		said[option] += text
	}
	for option, text := range said {
		r := refusalIn(text)
		accepted := strings.HasPrefix(text, "Submitted ")
		if accepted != (r == nil) {
			t.Errorf("%s: %q became %v", option, text, r)
		}
	}
	if r := refusalIn(said["--partition=nowhere"]); r.Text != "invalid partition specified: nowhere; Invalid partition name specified" || r.Later {
		t.Errorf("%+v", r)
	}
	want := Start{time.Unix(1795849569, 0), 1, "n1", "main", "sbatch: Job 20 to start at 1795849569 using 1 processors on nodes n1 in partition main"}
	if got := parseStart(recorded(t, "22.05", "test-only.txt")); got != want {
		t.Errorf("%+v", got)
	}
	if got := parseStart("sbatch: a word of a plugin\nsbatch: Job 2 to start at 2024-05-01T10:00:00 using 16 processors on nodes g[01-02] in partition gpu\n"); got.CPUs != 16 || got.Nodes != "g[01-02]" || !got.At.IsZero() {
		t.Errorf("%+v", got)
	}
	for text, want := range map[string]bool{
		"sbatch: error: Batch job submission failed: Socket timed out on send/recv operation":                                                                                               false,
		"sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)":                                                                                  false,
		"sbatch: error: slurm_receive_msgs: Zero Bytes were transmitted or received":                                                                                                        false,
		"sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, the user's size and/or time limits)": true,
	} {
		if r := refusalIn(text); (r != nil) != want {
			t.Errorf("%q became %v", text, r)
		}
	}
}

// FuzzCluster: whatever scontrol, sinfo, sacct and sbatch print, numbers stay numbers.
func FuzzCluster(f *testing.F) {
	for _, version := range []string{"22.05", "23.02", "25.11"} {
		f.Add(recorded(f, version, "partition.txt"), recorded(f, version, "sinfo.txt"))
	}
	f.Add("PartitionName=gpu\n", recorded(f, "24.05", "sinfo.txt"))
	f.Add("PartitionName=a=b State", "n|a|idle|1/-2/x/99999999999999999999|gpu:(:(((|)")
	f.Add(recorded(f, "sacct", "history.txt"), recorded(f, "22.05", "test-only.txt"))
	f.Fuzz(func(t *testing.T, shown, listed string) {
		for _, p := range partitionsOf(shown, listed) {
			if p.Name == "" || p.CPUs < 0 || p.CPUsFree < 0 || p.NodesUp > p.Nodes {
				t.Fatalf("%+v", p)
			}
			for _, g := range p.GPUs {
				if g.Free < 0 || g.Free > g.Total {
					t.Fatalf("%+v", p)
				}
			}
		}
		for _, j := range parseHistory(shown) {
			if j.ID == "" || strings.Contains(string(j.State), " ") {
				t.Fatalf("%+v", j)
			}
		}
		_ = parseStart(listed)
	})
}
