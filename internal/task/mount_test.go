package task

import (
	"errors"
	"strings"
	"testing"
)

// container returns a spec that asks for all that a container can give.
func container() *Spec {
	s := spec()
	s.Image, s.ContainerDir = "registry:5000/lab/image@sha256:0123", "/work"
	s.Mounts = []Mount{{Host: "/data", Target: "/data", ReadOnly: true}, {Host: "/", Target: "/host/ü"}}
	return s
}

func TestValidateContainer(t *testing.T) {
	t.Parallel()
	if err := container().Validate(); err != nil {
		t.Errorf("refused: %v", err)
	}
	for words, change := range map[string]func(*Spec){
		"need an image":                         func(s *Spec) { s.Image = "" },
		"no image's name":                       func(s *Spec) { s.Image = "a b" },
		"image is 1025 bytes long":              func(s *Spec) { s.Image = strings.Repeat("a", MaxImageBytes+1) },
		`container directory "work" is not`:     func(s *Spec) { s.ContainerDir = "work" },
		`container directory "/a/../b" is not`:  func(s *Spec) { s.ContainerDir = "/a/../b" },
		`container directory "/a\xff" is not`:   func(s *Spec) { s.ContainerDir = "/a\xff" },
		`host path "" is not`:                   func(s *Spec) { s.Mounts[0].Host = "" },
		`host path "/data/" is not`:             func(s *Spec) { s.Mounts[0].Host = "/data/" },
		`path in the container "../x" is not`:   func(s *Spec) { s.Mounts[1].Target = "../x" },
		`path in the container "/x\x00" is not`: func(s *Spec) { s.Mounts[1].Target = "/x\x00" },
		"the root of a container":               func(s *Spec) { s.Mounts[1].Target = "/" },
		"/data is mounted twice":                func(s *Spec) { s.Mounts[1].Target = "/data" },
		"257 mounts; at most 256":               func(s *Spec) { s.Mounts = make([]Mount, MaxMounts+1) },
		"gpu_model \"a\\n\" has a character":    func(s *Spec) { s.Resources.GPUModel = "a\n" },
	} {
		s := container()
		change(s)
		e, ok := errors.AsType[*Error](s.Validate())
		if !ok || e.Code != CodeInvalid || !strings.Contains(e.Message, words) {
			t.Errorf("%v, want a word about %q", e, words)
		}
	}
}

// TestDigestOfContainers tells apart what differs only in what a container sees.
func TestDigestOfContainers(t *testing.T) {
	t.Parallel()
	seen := map[Digest]string{container().Digest(): "unchanged"}
	for what, change := range map[string]func(*Spec){
		"read only": func(s *Spec) { s.Mounts[0].ReadOnly = false },
		"host":      func(s *Spec) { s.Mounts[0].Host = "/d" },
		"target":    func(s *Spec) { s.Mounts[0].Target = "/d" },
		"order":     func(s *Spec) { s.Mounts[0], s.Mounts[1] = s.Mounts[1], s.Mounts[0] },
		"fewer":     func(s *Spec) { s.Mounts = s.Mounts[:1] },
		"none":      func(s *Spec) { s.Mounts = nil },
		"directory": func(s *Spec) { s.ContainerDir = "" },
		"neither":   func(s *Spec) { s.ContainerDir, s.Mounts = "", nil },
	} {
		s := container()
		change(s)
		d := s.Digest()
		if other, twice := seen[d]; twice {
			t.Errorf("%s and %s have one digest", what, other)
		}
		seen[d] = what
	}
}

// TestShapeHasTheImage: tasks of different images are placed differently.
func TestShapeHasTheImage(t *testing.T) {
	t.Parallel()
	image, mounts := container(), container()
	image.Image, mounts.Mounts = "other", nil
	if container().Shape() == image.Shape() {
		t.Error("two images have one shape")
	}
	if container().Shape() != mounts.Shape() {
		t.Error("mounts change the shape, and placing does not depend on them")
	}
}
