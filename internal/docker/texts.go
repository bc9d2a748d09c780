package docker

import "strings"

// Some of what an engine has to say comes as "500" and a sentence. This table is the
// only place where sentences are looked at. Each was seen from the engine named; one
// that changes its words falls back to what its status says.
var texts = []struct {
	doing string // "" = whatever was done
	words string // in the text, in lower case; " * " is for what comes between, such as a name
	kind  error
	seen  string
}{
	{"", "no space left on device", ErrDiskFull, "ENOSPC of the engine's store; Engine 20.10, containerd 1.6"},
	{"", "disk quota exceeded", ErrDiskFull, "EDQUOT, the same way"},
	{doingStart, "network * not found", ErrNoNetwork, "it was removed while the container did not run, with 404; Engine 20.10"},
	{doingCreate, "network * not found", ErrNoNetwork, "the same; Engine 25 looks for it when it makes the container"},
	{doingJoin, "network * not found", ErrNoNetwork, "it went between the look and this"},
	{doingStart, "could not select device driver", ErrNoGPUs, "no nvidia-container-runtime-hook was in PATH when the engine started; Engine 20.10"},
	{doingStart, "nvidia-container-cli", ErrGPU, "NVIDIA's program that does it; its words end like those of runc below"},
	{doingStart, "nvidia-container-runtime", ErrGPU, "the same, of NVIDIA's hook"},
	{doingStart, "unresolvable cdi devices", ErrGPU, "an engine that uses CDI, which has no such device"},
	{doingStart, "port is already allocated", ErrPortTaken, "another container has it; Engine 20.10, libnetwork"},
	{doingStart, "address already in use", ErrPortTaken, "a process of the host has it; Engine 20.10, docker-proxy"},
	{doingStart, "executable file not found", ErrNoProgram, "runc 1.1"},
	{doingStart, "no such file or directory: unknown", ErrNoProgram, "runc 1.1, a program given by its path"},
	{doingStart, "permission denied: unknown", ErrNotExecutable, "runc 1.1"},
	{doingCreate, "is already in use", ErrNameTaken, "Podman 4.3, with status 500"},
	{doingKill, "is not running", ErrNotRunning, "Engine 20.10 with 409; Podman 4.3 with 500"},
	{doingKill, "can only kill running containers", ErrNotRunning, "Podman 4.3"},
	{doingPull, "pull access denied", ErrUnauthorised, "Engine 20.10 with 404: the registry does not say which of the two it is"},
	{doingPull, "unauthorized", ErrUnauthorised, "the registry's own word, with 500; Engine 20.10"},
	{doingPull, "no basic auth credentials", ErrUnauthorised, "no credentials were sent; Engine 20.10"},
	{doingPull, "authentication required", ErrUnauthorised, "the registry's own words"},
	{doingPull, "manifest unknown", ErrNoImage, "the registry's own words, in the stream or with 404"},
	{doingPull, "not found: manifest", ErrNoImage, "Engine 20.10"},
	{doingPull, "repository name not known", ErrNoImage, "the registry's own words"},
	{doingPull, "no matching manifest", ErrNoImage, "nothing in it for this kind of machine; Engine 20.10"},
}

// kindByText returns the sentinel for what an engine said; nil = it is not known.
func kindByText(doing, text string) error {
	text = strings.ToLower(text)
	for _, t := range texts {
		if (t.doing == "" || t.doing == doing) && saysAll(text, t.words) {
			return t.kind
		}
	}
	return nil
}

// saysAll says that a text has words, with anything where those have " * ".
func saysAll(text, words string) bool {
	for part := range strings.SplitSeq(words, "* ") {
		_, after, found := strings.Cut(text, part)
		if !found {
			return false
		}
		text = after
	}
	return true
}
