package container

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/dockertest"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// runWith hands over a task that was given GPUs.
func (d *daemon) runWith(seq task.Seq, s task.Spec, lease task.Lease) task.Task {
	d.t.Helper()
	tk := leased(d.t, seq, s, lease)
	d.mu.Lock()
	d.tasks[tk.Ref()] = tk
	d.mu.Unlock()
	must(d.t, d.Launch(d.t.Context(), []task.Task{tk}))
	return tk
}

func gpus(uuids ...string) task.Lease { return task.Lease{GPUs: uuids, CUDA: "0"} }

const (
	gpu0 = "GPU-00000000-0000-0000-0000-000000000000"
	gpu5 = "GPU-00000000-0000-0000-0000-000000000005"
	mig  = "MIG-00000000-0000-0000-0000-000000000001"
)

// A container is given the GPUs of its task's lease, by UUID, and no others, whatever its
// submitter or its image says; one without a lease is given none.
func TestGPUsOfTheLease(t *testing.T) {
	t.Parallel()
	e := shared(t)
	p := newPlace(t, e.Address())
	d := p.daemon(t)
	show := sh("env | grep -E '^(NVIDIA|CUDA|DSPY_GPU)' | sort")
	show.Env = []string{"NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=compute"}
	for i, c := range []struct {
		lease task.Lease
		shown string
	}{
		{gpus(gpu5, gpu0), "CUDA_DEVICE_ORDER=PCI_BUS_ID\nNVIDIA_DRIVER_CAPABILITIES=compute\nNVIDIA_VISIBLE_DEVICES=" + gpu5 + "," + gpu0 + "\n"},
		{gpus(mig), "CUDA_DEVICE_ORDER=PCI_BUS_ID\nNVIDIA_DRIVER_CAPABILITIES=compute\nNVIDIA_VISIBLE_DEVICES=" + mig + "\n"},
		{
			task.Lease{GPUs: []string{gpu0}, GPUMem: 5 << 30},
			"CUDA_DEVICE_ORDER=PCI_BUS_ID\nDSPY_GPU_MEM_BYTES=5368709120\nNVIDIA_DRIVER_CAPABILITIES=compute\nNVIDIA_VISIBLE_DEVICES=" + gpu0 + "\n",
		},
		{task.Lease{}, "NVIDIA_DRIVER_CAPABILITIES=compute\nNVIDIA_VISIBLE_DEVICES=void\n"},
	} {
		tk := d.end(d.runWith(task.Seq(i+1), show, c.lease))
		if tk.State() != task.Succeeded {
			t.Fatalf("%v: %s: %+v", c.lease, tk.State(), tk.Status().Outcome)
		}
		if got := p.output(t, tk.Ref()); got != c.shown {
			t.Errorf("%v: it sees %q, want %q", c.lease, got, c.shown)
		}
		if got := e.Given(t)[ContainerID(tk)]; !slices.Equal(got, c.lease.GPUs) {
			t.Errorf("%v: it was given %v", c.lease, got)
		}
	}
}

// A GPU that the toolkit does not find is no fault of the program, whose like it is told
// in: "no such file", say.
func TestGPUThatTheToolkitDoesNotFind(t *testing.T) {
	t.Parallel()
	e := shared(t)
	const gone = "GPU-00000000-0000-0000-0000-000000000404"
	e.Lose(t, gone)
	d := newPlace(t, e.Address()).daemon(t)
	state, o := outcome(d.end(d.runWith(1, sh("true"), gpus(gone))), 1)
	if state != task.Failed || o.Class != task.CouldNotStart || !strings.Contains(o.Message, "GPU-00000000-0000-0000-0000-000000000404: unknown device") {
		t.Errorf("%s, %+v", state, o)
	}
	if why := d.NoGPUs(); why != "" {
		t.Errorf("and for that it gives nobody any: %s", why)
	}
}

// An engine without the toolkit says so when it is to start a container. It is believed
// until it was restarted.
func TestEngineWithoutTheToolkit(t *testing.T) {
	t.Parallel()
	e := dockertest.Start(t, dockertest.Config{NoToolkit: true})
	e.LoadShell(t)
	p := newPlace(t, e.Address())
	d := p.daemon(t)
	state, o := outcome(d.end(d.runWith(1, sh("true"), gpus(gpu0))), 1)
	if state != task.Failed || o.Class != task.CouldNotStart || !strings.Contains(o.Message, "install nvidia-container-toolkit and restart the engine") {
		t.Errorf("%s, %+v", state, o)
	}
	if why := d.NoGPUs(); !strings.Contains(why, "install nvidia-container-toolkit") {
		t.Errorf("it is not known of the engine: %q", why)
	}
	if tk := d.end(d.run(2, sh("true"))); tk.State() != task.Succeeded {
		t.Errorf("without GPUs: %s, %+v", tk.State(), tk.Status().Outcome)
	}
	couldNotStart(t, p)
	must(t, e.Stop())
	e.SetToolkit(true)
	must(t, e.Up())
	d.await("the restarted engine is seen", func() bool { return d.Down() == "" && d.NoGPUs() == "" })
	if tk := d.end(d.runWith(3, sh("true"), gpus(gpu0))); tk.State() != task.Succeeded {
		t.Errorf("with the toolkit: %s, %+v", tk.State(), tk.Status().Outcome)
	}
}

// couldNotStart has a daemon come to a container that an earlier one tried to start: it
// knows why that came to nothing.
func couldNotStart(t *testing.T, p *place) {
	t.Helper()
	tk := leased(t, 9, sh("true"), gpus(gpu0))
	spec, no := newRun(p.open(t), tk).spec(tk)
	if no != nil {
		t.Fatal(no.text)
	}
	spec.Mounts = nil // the files of the attempt are of no concern
	_, err := p.opts.Engine.Create(t.Context(), spec)
	must(t, err)
	if err := p.opts.Engine.Start(t.Context(), spec.Name); !errors.Is(err, docker.ErrNoGPUs) {
		t.Fatalf("it is started without the toolkit: %v", err)
	}
	d := p.daemon(t)
	defer d.stop()
	d.mu.Lock()
	d.tasks[tk.Ref()] = tk
	d.mu.Unlock()
	must(t, d.Launch(t.Context(), []task.Task{tk}))
	if _, o := outcome(d.end(tk), 1); o.Class != task.CouldNotStart || !strings.Contains(o.Message, "install nvidia-container-toolkit") {
		t.Errorf("the next daemon: %+v", o)
	}
	if d.NoGPUs() == "" {
		t.Error("the next daemon does not know it of the engine")
	}
}

// Podman takes requests for GPUs, and takes no notice of them.
func TestPodmanGivesNoGPUs(t *testing.T) {
	t.Parallel()
	d := newPlace(t, dockertest.Shared(t, dockertest.Config{Podman: true}).Address()).daemon(t)
	d.await("the engine", func() bool { return d.Down() == "" })
	if why := d.NoGPUs(); !strings.Contains(why, "Podman") {
		t.Errorf("%q", why)
	}
}

// A container that loses sight of its GPUs fails by that, and its user's retries are
// spared; the same words of a program that has none are its own.
func TestLostSight(t *testing.T) {
	t.Parallel()
	d := newPlace(t, shared(t).Address()).daemon(t)
	failing := sh("echo 'Failed to initialize NVML: Unknown Error'; exit 9")
	if _, o := outcome(d.end(d.runWith(1, failing, gpus(gpu0))), 1); o.Class != task.GPULost || o.ExitCode != 9 || !strings.Contains(o.Message, "daemon-reload") {
		t.Errorf("%+v", o)
	}
	if _, o := outcome(d.end(d.run(2, failing)), 1); o.Class != task.UserError {
		t.Errorf("without GPUs: %+v", o)
	}
	failing.Argv[2] = strings.Replace(failing.Argv[2], "exit 9", "exit 0", 1)
	if tk := d.end(d.runWith(3, failing, gpus(gpu0))); tk.State() != task.Succeeded {
		t.Errorf("it has ended well: %+v", tk.Status().Outcome)
	}
}

// The main process of a container is known while it runs: it shows others that its GPUs
// are held.
func TestMainProcess(t *testing.T) {
	t.Parallel()
	p := newPlace(t, shared(t).Address())
	d := p.daemon(t)
	tk := d.running(d.run(1, sh("sleep 1000")))
	main := d.Process(tk)
	c, err := p.opts.Engine.Inspect(t.Context(), nameOf(p.opts.QueueID, tk.Ref()))
	must(t, err)
	if main.PID != c.PID || !main.Runs() {
		t.Errorf("it is said to be %+v; the engine says %d", main, c.PID)
	}
	must(t, p.opts.Engine.Kill(t.Context(), c.ID, "KILL"))
	d.end(tk)
	poll(t, "its end", func() bool { return !main.Runs() })
}
