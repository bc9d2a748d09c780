package envmgr

import (
	"crypto/sha256"
	"encoding/hex"
	"path"
	"slices"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/docker"
)

// undeclared gives volumes with names to the paths that an image wants to be volumes and
// that the definition says nothing of. The engine would make ones without a name, which
// the next container of the service, made by a changed definition, would not have: by
// these names it finds its data again, whoever ended in between.
func (d Definition) undeclared(declared []string) (mounts []docker.ServiceMount) {
	for _, at := range declared {
		at = path.Clean(at)
		if at == "/" || slices.ContainsFunc(d.Volumes, func(v Volume) bool { return path.Clean(v.Target) == at }) {
			continue
		}
		sum := sha256.Sum256([]byte(at)) // /a/b and /a_b are two
		name := d.containerName() + strings.Map(nameRune, at) + "_" + hex.EncodeToString(sum[:3])
		mounts = append(mounts, docker.ServiceMount{Volume: name, Target: at})
	}
	return mounts
}

// nameRune makes a path part of the name of a volume.
func nameRune(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' {
		return r
	}
	return '_'
}
