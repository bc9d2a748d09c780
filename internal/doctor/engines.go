package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/dspy-agent/dspy-agent/internal/config"
)

// The parts that people will look for and that come with a later release: whether
// what they need is here, and that nothing waits for it yet.

const unneeded = "; containers come with a later release, and nothing else needs it"

// checkDocker looks for the socket of a container engine, and asks it nothing.
func checkDocker(ctx context.Context, x *examination, cfg config.Config) []Finding {
	for _, at := range x.engineSockets(cfg) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", at)
		switch {
		case err == nil:
			_ = conn.Close() // nothing was said
			return bad(Note, "a container engine listens at "+at+unneeded, "")
		case errors.Is(err, fs.ErrPermission):
			return bad(Note, "a container engine is at "+at+", and you may not use it"+unneeded, "ask to be put into the group of that socket (usually docker), once you need it")
		case errors.Is(err, syscall.ECONNREFUSED):
			return bad(Note, "a container engine was at "+at+", and does not run"+unneeded, "")
		}
	}
	if strings.HasPrefix(cfg.DockerHost, "tcp://") || strings.HasPrefix(cfg.DockerHost, "ssh://") {
		return bad(Note, "DOCKER_HOST is "+cfg.DockerHost+", which was not tried"+unneeded, "")
	}
	return bad(Note, "Docker is not here, and not needed: containers come with a later release", "")
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

// checkSlurm looks for the command that submits jobs.
func checkSlurm(_ context.Context, x *examination) []Finding {
	if path := x.lookPath("sbatch"); path != "" {
		return bad(Note, fmt.Sprintf("Slurm is here (%s); it comes with a later release, and gpu_slurm is refused until then", path), "submit with sbatch yourself until then")
	}
	return bad(Note, "Slurm is not here, and not needed for tasks on this machine", "")
}

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
