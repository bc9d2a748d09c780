package compose

import (
	"reflect"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
)

// understood are the keys of a service that have a place in a definition.
var understood = []string{
	"cap_add", "cap_drop", "command", "container_name", "cpus", "depends_on", "entrypoint", "environment", "env_file", "healthcheck", "hostname",
	"image", "init", "label_file", "labels", "mem_limit", "network_mode", "networks", "ports", "profiles", "read_only", "shm_size",
	"stop_grace_period", "stop_signal", "user", "volumes", "working_dir", "deploy", "pull_policy", "security_opt",
}

// idle are keys that may be there and have no effect: the supervisor restarts services
// and bounds their logs itself, and other containers reach all ports anyhow.
var idle = []string{"attach", "expose", "logging", "restart", "scale"}

// strangers lists the keys of a service that are set and not understood.
func strangers(s types.ServiceConfig) (keys []string) {
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		for i := range v.NumField() {
			f, t := v.Field(i), v.Type().Field(i)
			key, rest, _ := strings.Cut(t.Tag.Get("yaml"), ",")
			switch {
			case t.Anonymous && strings.Contains(rest, "inline"):
				walk(f)
			case key == "" || key == "-" || strings.HasPrefix(key, "#") || f.IsZero() || empty(f):
			case key == "name" || slices.Contains(understood, key) || slices.Contains(idle, key):
			default:
				keys = append(keys, key)
			}
		}
	}
	walk(reflect.ValueOf(s))
	slices.Sort(keys)
	return keys
}

func empty(v reflect.Value) bool {
	return (v.Kind() == reflect.Slice || v.Kind() == reflect.Map) && v.Len() == 0
}
