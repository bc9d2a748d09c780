package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/slurmtest"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// doubtfulSbatch stands before the real one: of a hundred calls, so many are answered and
// say that they were not, so many are taken only seconds later, so many only after it was
// submitted again, and so many not at all.
const doubtfulSbatch = `
script=$(mktemp "$DOUBTFUL/script.XXXXXX")
cat >"$script"
trouble() {
	echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2
	exit 1
}
case $((RANDOM % 100)) in
[0-9]|1[0-9]) "$REAL_SBATCH" "$@" <"$script" >/dev/null; trouble ;;
2[0-9]) (sleep 4; "$REAL_SBATCH" "$@" <"$script") >/dev/null 2>&1 & trouble ;;
3[0-4]) (sleep 15; "$REAL_SBATCH" "$@" <"$script") >/dev/null 2>&1 & trouble ;;
3[5-9]|4[0-4]) trouble ;;
esac
exec "$REAL_SBATCH" "$@" <"$script"
`

// useSlurm gives the world a cluster, and sbatch in front of it if there is a text.
func (w *world) useSlurm(c *slurmtest.Cluster, sbatch string) {
	w.Helper()
	w.env = append(w.env, "SLURM_CONF="+c.Conf())
	w.configure("[classes.far]\nbackends = [\"slurm\"]\n")
	if sbatch == "" {
		return
	}
	// Not below the world, which is removed while late calls may still use it.
	dir, err := os.MkdirTemp("", "dspy-sbatch-")
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			w.Error(err)
		}
	})
	real, err := exec.LookPath("sbatch")
	if err != nil {
		w.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "sbatch"), fmt.Appendf(nil, "#!/bin/bash\nREAL_SBATCH=%s\nDOUBTFUL=%s\n%s", real, dir, sbatch), 0o755); err != nil {
		w.Fatal(err)
	}
	w.env = append(w.env, "PATH="+dir+":"+os.Getenv("PATH"))
}

// theCluster is that of all tests here: they give back what they use.
func theCluster(t *testing.T) *slurmtest.Cluster {
	t.Helper()
	return slurmtest.Shared(t, slurmtest.Config{Settings: "MessageTimeout=3"})
}

// TestSlurmTemplate: a payload over HTTP chooses a template, which becomes a job with the
// payload's values, and its number and its end are told at every door.
func TestSlurmTemplate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, binaries.plain)
	w.useSlurm(theCluster(t), "")
	folder := filepath.Join(w.workspace, "templates")
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // as people make one
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "grpo.sbatch"), []byte("#!/bin/bash\n#SBATCH --job-name=mine --gres=gpu:${GPUS:-2}\n"+
		"echo \"$TASK_ID ${LR} $SLURM_JOB_ID\" \"$@\"\necho \"__DSPY_RESULT__: {\\\"gpus\\\": \\\"$SLURM_GPUS_ON_NODE\\\"}\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.configure("[slurm]\ntemplates = \"" + folder + "\"\n")
	d := w.openDoors()
	answer := d.post("/queue/submit", `{"id":"a/b","class":"gpu_slurm","payload":{"method":"grpo","lr":"$(id) '"}}`)
	var said struct {
		OK     bool
		Status string
		Job    string `json:"slurm_job_id"`
	}
	if err := json.Unmarshal([]byte(answer), &said); err != nil || !said.OK || said.Status != "submitted" || said.Job == "" {
		t.Fatalf("%s, %v", answer, err)
	}
	if end := w.await("a/b"); end.GetState() != "succeeded" || string(end.GetResultJson()) != `{"gpus": "2"}` {
		t.Errorf("%s: %s %s", end.GetState(), end.GetOutcome().GetMessage(), end.GetResultJson())
	}
	if _, _, body := d.get(http.MethodGet, "/slurm/status/a/b"); !strings.Contains(body, `"id":"`+said.Job+`"`) || !strings.Contains(body, `"status":"completed"`) {
		t.Error(body)
	}
	if got, want := w.dspyOK("logs", "a/b"), "a/b $(id) ' "+said.Job+"\n"; !strings.HasPrefix(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	shown := w.dspyOK("slurm", "render", "a/b") + w.dspyOK("slurm", "info")
	for _, words := range []string{"#SBATCH --gres=gpu:2\n", "cluster testbed", "16 h100", "templates in " + folder + ": grpo"} {
		if !strings.Contains(shown, words) {
			t.Errorf("no %q in\n%s", words, shown)
		}
	}
	w.wants(w.dspy("slurm", "test", "--class", "gpu_slurm", "--payload", `{"method":"grpo","gpus":17}`), 5, "slurm refused the job")
	w.wants(w.dspy("submit", "--class", "gpu_slurm", "--payload", `{"template":"none"}`), 5, `"template" is "none", which is not in`)
}

// TestSlurmOnceWhateverSbatchSays: sbatch lies, is late or fails, and the daemon is killed
// every few seconds; each task works once, and no job is left.
func TestSlurmOnceWhateverSbatchSays(t *testing.T) {
	t.Parallel()
	tasks := rounds(30, 1000)
	// 3 s, so that twice that is a doubt of 6 s: shorter than the latest answers.
	c := theCluster(t)
	w := newWorld(t, binaries.plain)
	w.useSlurm(c, doubtfulSbatch)
	w.mustStart()
	line := `echo "$DSPY_TASK_ID" >> ` + w.workspace + `/ran`
	var batch []*pb.SubmitTaskRequest
	for i := range tasks {
		req := submission(fmt.Sprint("t", i), line)
		req.Class = "far"
		batch = append(batch, req)
	}
	w.submit(batch...)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	began := time.Now()
	kills := 0
	for left := tasks; left > 0; {
		pauseFor(time.Duration(1500+rnd.IntN(4000)) * time.Millisecond)
		w.killDaemon()
		kills++
		w.mustStart()
		left = 0
		for _, info := range w.all() {
			if !ended(info) {
				left++
			}
		}
		if time.Since(began) > 15*time.Minute {
			t.Fatalf("%d tasks have not ended after %s", left, time.Since(began))
		}
	}
	ran := w.runs()
	for id, info := range w.all() {
		if ran[id] != 1 || info.GetState() != "succeeded" {
			t.Errorf("%s ran %d times, and is %s: %s", id, ran[id], info.GetState(), info.GetOutcome().GetMessage())
		}
	}
	t.Logf("%d tasks in %s, the daemon killed %d times", tasks, time.Since(began).Round(time.Second), kills)
	w.eventually(2*time.Minute, "no job is left", func() bool {
		return c.Command(t, "squeue", "--me", "-h", "-t", "PD,R,CF,CG", "-o", "%i") == ""
	})
	total := strings.Count(c.Command(t, "scontrol", "show", "job", "-o")+"\n", "JobId=")
	t.Logf("%d jobs for %d tasks", total, tasks)
}

// ended says whether nothing follows any more.
func ended(info *pb.TaskInfo) bool {
	switch info.GetState() {
	case "succeeded", "failed", "cancelled", "lost":
		return true
	}
	return false
}
