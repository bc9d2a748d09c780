package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/slurm"
)

// Engines that tasks may be given to, and parts that come with a later release: whether
// what they need is here.

// getEngine says how to get a container engine.
const getEngine = "install one: apt install docker.io and ask to be put into the group docker; or without root: apt install podman, then podman system service --time=0 & and set DOCKER_HOST=unix://$XDG_RUNTIME_DIR/podman/podman.sock"

// checkDocker asks the container engine who it is, at the place where the daemon will
// look for it. Tasks without an image need none.
func checkDocker(ctx context.Context, x *examination, cfg config.Config) []Finding {
	client, err := docker.New(docker.Options{Host: cmp.Or(cfg.DockerHost, "unix://"+x.system("/var/run/docker.sock")), CertDir: x.getenv("DOCKER_CERT_PATH")})
	if err != nil {
		return bad(Warning, err.Error(), "set DOCKER_HOST, or docker_host in the configuration")
	}
	defer client.Close() //nolint:errcheck // only idle connections
	is, err := client.Connect(ctx)
	switch {
	case err == nil:
		found := good("a container engine answers at %s: version %s, API %s", client.Host(), is.Version, is.API)
		found = append(found, checkInit(x, client, is)...)
		return append(found, x.checkEngineGPUs(client, is)...)
	case errors.Is(err, docker.ErrForbidden):
		return bad(Note, "a container engine is at "+client.Host()+", and you may not use it; tasks with an image wait", "ask to be put into the group of that socket (usually docker), and log in again")
	case errors.Is(err, docker.ErrTooOld):
		return bad(Warning, err.Error(), "upgrade it")
	}
	for _, at := range x.engineSockets(cfg) {
		var d net.Dialer
		if conn, err := d.DialContext(ctx, "unix", at); err == nil {
			_ = conn.Close() // nothing was said
			return bad(Note, "no container engine answers at "+client.Host()+", and one listens at "+at+"; tasks with an image wait", "export DOCKER_HOST=unix://"+at+" before the daemon is started, or set docker_host in the configuration")
		}
	}
	return bad(Note, "no container engine answers at "+client.Host()+"; tasks with an image wait until one does, others need none", getEngine)
}

// checkInit looks for the program that runs first in containers.
func checkInit(x *examination, client *docker.Client, is docker.Engine) []Finding {
	switch {
	case !client.Local():
		return bad(Note, "the engine is on another machine, so containers run without our init: what becomes of them while the engine is killed may not be known", "")
	case is.UsersMapped:
		return bad(Note, "the engine maps users to others (userns-remap), so containers run without our init: what becomes of them while the engine is killed may not be known", "")
	case x.lookPath("dspy-init") == "" && !besideUs("dspy-init"):
		return bad(Warning, "dspy-init is not here, so containers run without it: what becomes of them while the engine is killed may not be known", "put dspy-init beside dspy-agent, or into PATH (make build makes it)")
	}
	return nil
}

// besideUs says whether a program is in the folder of this one.
func besideUs(name string) bool {
	self, err := os.Executable()
	return err == nil && exists(filepath.Join(filepath.Dir(self), name))
}

// engineSockets lists where engines listen, the one that was named first.
func (x *examination) engineSockets(cfg config.Config) []string {
	var out []string
	if at, ok := strings.CutPrefix(cfg.DockerHost, "unix://"); ok {
		out = append(out, at)
	}
	if dir := cfg.RuntimeDir; dir != "" {
		out = append(out, filepath.Join(dir, "docker.sock"), filepath.Join(dir, "podman/podman.sock"))
	}
	return append(out, x.system("/var/run/docker.sock"), x.system("/run/podman/podman.sock"))
}

// checkSlurm asks the cluster who it is.
func checkSlurm(ctx context.Context, x *examination) []Finding {
	path := x.lookPath("sbatch")
	if path == "" {
		return bad(Note, "Slurm is not here, and not needed for tasks on this machine", "")
	}
	client := slurm.Client{Dir: filepath.Dir(path), Env: slurm.Environment(x.Environ), Patience: slurmPatience}
	is, err := client.Settings(ctx)
	switch {
	case err == nil:
		return good("Slurm %s answers, cluster %s", is.Version, is.Cluster)
	case errors.Is(err, slurm.ErrMissing):
		return bad(Note, fmt.Sprintf("Slurm is here (%s) without a cluster; tasks for it wait", path), "export SLURM_CONF before the daemon is started, or run it on a login node")
	default:
		return bad(Warning, fmt.Sprintf("Slurm is here (%s), and its controller does not answer; tasks for it wait: %v", path, err), "try sinfo; the administrators know more")
	}
}

// slurmPatience is how long a controller may take.
const slurmPatience = 5 * time.Second

// checkGPU looks for NVIDIA's driver.
func checkGPU(_ context.Context, x *examination) []Finding {
	version, err := os.ReadFile(x.system("/proc/driver/nvidia/version"))
	first, _, _ := strings.Cut(string(version), "\n")
	probe, tool := x.lookPath("gpu-probe"), x.lookPath("nvidia-smi")
	if self, err := os.Executable(); err == nil && probe == "" {
		if beside := filepath.Join(filepath.Dir(self), "gpu-probe"); exists(beside) {
			probe = beside
		}
	}
	switch here := strings.Join(strings.Fields(first), " "); {
	case err == nil && probe != "":
		return good("NVIDIA's driver is here (%s), and gpu-probe to read it (%s)", here, probe)
	case err == nil && tool != "":
		return bad(Note, fmt.Sprintf("NVIDIA's driver is here (%s), and gpu-probe is not: nvidia-smi is asked instead, which tells less, and nothing of errors", here),
			"put gpu-probe beside dspy-agent, or into PATH (make build makes it where there is a C compiler)")
	case err == nil:
		return bad(Warning, fmt.Sprintf("NVIDIA's driver is here (%s), and neither gpu-probe nor nvidia-smi to read it: no GPU is given out", here),
			"put gpu-probe beside dspy-agent, or into PATH (make build makes it where there is a C compiler)")
	case tool != "":
		return bad(Note, fmt.Sprintf("%s is here, and NVIDIA's driver is not loaded", tool), "")
	}
	return bad(Note, "NVIDIA's driver is not here, and not needed for CPU tasks", "")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// lookPath finds a program in PATH; "" if it is not there.
func (x *examination) lookPath(name string) string {
	for _, dir := range filepath.SplitList(x.getenv("PATH")) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); filepath.IsAbs(dir) && err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			return path
		}
	}
	return ""
}
