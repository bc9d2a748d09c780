package cli

import (
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/config"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// specImage reads the flags that are about a container. The task may have the image of its
// class.
func (s *session) specImage(c *cli.Context, cfg config.Config, spec *pb.TaskSpec) error {
	spec.Image = c.String("image")
	if c.IsSet("image") && spec.Image == "" {
		return usagef("--image is empty; is a variable of the shell not set? Leave --image out to run on this machine directly")
	}
	boxed := spec.Image != ""
	if class, err := cfg.Class(c.String("class")); err == nil {
		boxed = boxed || class.Image != ""
	}
	switch {
	case !boxed && (c.IsSet("network") || c.Bool("image-entrypoint")):
		return usagef("--network and --image-entrypoint need --image, or a class with an image: without a container the program has this machine's network")
	case !boxed && c.IsSet("mount"):
		return usagef("--mount needs --image, or a class with an image: without a container the program sees the host's paths")
	}
	return s.specMounts(c, spec)
}

func (s *session) specMounts(c *cli.Context, spec *pb.TaskSpec) error {
	spec.Network, spec.ImageEntrypoint = c.String("network"), c.Bool("image-entrypoint")
	if c.IsSet("network") && spec.Network == "" {
		return usagef("--network is empty; is a variable of the shell not set? none is no network")
	}
	for _, text := range c.StringSlice("mount") {
		m, ok := s.mount(text)
		if !ok {
			return usagef("--mount is %q; write HOST, HOST:PATH or HOST:PATH:ro, with an absolute PATH in the container", text)
		}
		spec.Mounts = append(spec.Mounts, m)
	}
	return nil
}

// mount reads HOST[:PATH][:ro]. Without PATH it is the same as on the host.
func (s *session) mount(text string) (*pb.Mount, bool) {
	rest, readOnly := strings.CutSuffix(text, ":ro")
	host, target, both := strings.Cut(rest, ":")
	if host == "" || both && !filepath.IsAbs(target) {
		return nil, false
	}
	if !filepath.IsAbs(host) {
		host = filepath.Join(s.env.Cwd, host)
	}
	host = filepath.Clean(host)
	if !both {
		target = host
	}
	return &pb.Mount{HostPath: host, MountPath: filepath.Clean(target), ReadOnly: readOnly}, true
}
