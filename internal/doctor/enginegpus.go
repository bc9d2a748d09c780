package doctor

import (
	"github.com/dspy-agent/dspy-agent/internal/docker"
)

// checkEngineGPUs says of an engine that answers whether its containers can be given the
// GPUs of this machine, as far as that can be told without starting one; nil = nothing
// speaks against it, or there are no GPUs.
func (x *examination) checkEngineGPUs(client *docker.Client, is docker.Engine) []Finding {
	const others = "; tasks with an image that need a GPU wait, all others run"
	switch {
	case !exists(x.system("/proc/driver/nvidia/version")):
		return nil
	case is.Podman:
		return bad(Note, "Podman takes no notice of GPUs that are asked for through Docker's API"+others, "for GPUs in containers use Docker, and set DOCKER_HOST")
	case !client.Local():
		return bad(Note, "an engine that is called over the network is given no GPUs of this machine"+others, "if it is on this machine, name its socket: DOCKER_HOST=unix:///var/run/docker.sock")
	case !x.hasToolkit():
		return bad(Note, "NVIDIA's driver is here, and its container toolkit is not"+others, "install nvidia-container-toolkit, and restart the engine, which looks for it when it starts: systemctl restart docker")
	case is.Systemd && !exists(x.system("/dev/char/195:255")):
		return bad(Note, "containers lose their GPUs when somebody runs systemctl daemon-reload (the engine uses systemd's cgroups, and /dev/char has no links to NVIDIA's devices)",
			`nvidia-ctk system create-dev-char-symlinks --create-all, at every boot; or "exec-opts": ["native.cgroupdriver=cgroupfs"] in Docker's daemon.json`)
	}
	return nil
}

// hasToolkit says whether what an engine looks for is where it usually is, or in our
// PATH; the engine's own is not ours to see.
func (x *examination) hasToolkit() bool {
	for _, name := range []string{"nvidia-container-runtime-hook", "nvidia-container-toolkit", "nvidia-ctk"} {
		if x.lookPath(name) != "" || exists(x.system("/usr/bin/"+name)) {
			return true
		}
	}
	return false
}
