package payload

import (
	"bytes"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// mountKeys are the keys of one mount.
var mountKeys = keys{
	known: []string{"host_path", "mount_path", "read_only"},
	meant: map[string]string{
		"source": "host_path", "src": "host_path", "host": "host_path",
		"target": "mount_path", "dst": "mount_path", "destination": "mount_path", "container_path": "mount_path",
		"ro": "read_only", "mode": "read_only",
	},
}

// mounts reads which paths of the host a container is to see.
func (o *object) mounts(key string) []task.Mount {
	var out []task.Mount
	taken := map[string]bool{}
	for _, m := range o.objects(key, "a list of objects with host_path and mount_path", task.MaxMounts) {
		m.refuseTypos(mountKeys)
		mount := task.Mount{Host: m.required("host_path"), Target: m.required("mount_path"), ReadOnly: m.flag("read_only")}
		switch {
		case mount.Target == "/":
			m.fail("mount_path", "is the root of the container", "mount below it, such as at \"/data\"")
		case taken[mount.Target]:
			m.fail("mount_path", "is that of another mount, too", "give each mount a path of its own")
		}
		taken[mount.Target] = true
		out = append(out, mount)
	}
	return out
}

// required returns a path that has to be there.
func (o *object) required(key string) string {
	p := o.cleanPath(key)
	if p == "" {
		o.fail(key, "is missing", "give an absolute path, such as \"/data/sets\"")
	}
	return p
}

// flag returns true or false, which may be given as text.
func (o *object) flag(key string) bool {
	if !o.fields.has(key) {
		return false
	}
	switch string(bytes.ToLower(bytes.Trim(bytes.TrimSpace(o.fields[key]), `"`))) {
	case "true":
		return true
	case "false":
	default:
		o.mismatch(key, "true or false")
	}
	return false
}
