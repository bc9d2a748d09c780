package task

import (
	"path"
	"strings"
	"unicode/utf8"
)

// Limits of what a task asks of its container.
const (
	MaxMounts     = 256
	MaxImageBytes = 1024
	MaxPathBytes  = 4096 // the kernel's own
)

// Mount shows a path of the host to a container.
type Mount struct {
	Host     string // path on the host
	Target   string // path in the container
	ReadOnly bool
}

// validateContainer checks what only a container can give.
func (s *Spec) validateContainer() error {
	if len(s.Image) > MaxImageBytes {
		return invalid("image is %d bytes long; at most %d are allowed", len(s.Image), MaxImageBytes)
	}
	if !Printable(s.Image) || strings.Contains(s.Image, " ") {
		return invalid("image %q has a character that is in no image's name", s.Image)
	}
	if s.Image == "" && (len(s.Mounts) > 0 || s.ContainerDir != "") {
		return invalid("mounts and a container directory need an image: without a container the program sees the host's paths")
	}
	if s.Image == "" && (s.Network != "" || s.ImageEntrypoint) {
		return invalid("a network and the image's entry point need an image: without a container the program has the host's network")
	}
	if !networkName(s.Network) {
		return invalid("network %q is no name of a container network: letters, digits, and _ . - only", s.Network)
	}
	if s.ContainerDir != "" && !cleanPath(s.ContainerDir) {
		return invalid("container directory %q is not an absolute path without . and ..", s.ContainerDir)
	}
	return s.validateMounts()
}

// networkName says whether a text may name a network. Another container's, which engines
// allow by "container:NAME", is not one.
func networkName(s string) bool {
	return len(s) <= MaxNameBytes && strings.IndexFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_.-", r)
	}) < 0
}

func (s *Spec) validateMounts() error {
	if len(s.Mounts) > MaxMounts {
		return invalid("the task has %d mounts; at most %d are allowed", len(s.Mounts), MaxMounts)
	}
	taken := make(map[string]bool, len(s.Mounts))
	for _, m := range s.Mounts {
		switch {
		case !cleanPath(m.Host):
			return invalid("mount: host path %q is not an absolute path without . and ..", m.Host)
		case !cleanPath(m.Target):
			return invalid("mount %s: path in the container %q is not an absolute path without . and ..", m.Host, m.Target)
		case m.Target == "/":
			return invalid("mount %s: the root of a container cannot be mounted over", m.Host)
		case taken[m.Target]:
			return invalid("mount %s: %s is mounted twice in the container", m.Host, m.Target)
		}
		taken[m.Target] = true
	}
	return nil
}

// cleanPath says whether p is an absolute path that is written in one way only:
// without "..", ".", and slashes that do nothing. It is text: the engines of
// containers take their paths in JSON.
func cleanPath(p string) bool {
	return path.IsAbs(p) && path.Clean(p) == p && len(p) <= MaxPathBytes && utf8.ValidString(p) && !strings.Contains(p, "\x00")
}
