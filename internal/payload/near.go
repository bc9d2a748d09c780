package payload

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/spelling"
)

// keys are what an object of the contract may have.
type keys struct {
	known []string
	// meant are keys of other schedulers, and of our own other forms, whose
	// meaning is plain: ignored, they would give a task that runs without what
	// it was to have.
	meant map[string]string
}

// refuseTypos refuses keys that are a known one with a slip in it. Others are
// kept for the program and mean nothing here: older clients send such.
func (o *object) refuseTypos(k keys) {
	for _, key := range slices.Sorted(maps.Keys(o.fields)) {
		if slices.Contains(k.known, key) {
			continue
		}
		instead, sure := k.meant[key]
		if !sure {
			instead = nearest(key, o.absent(k.known), 2)
		}
		if instead != "" {
			o.fail(key, "is not a key of "+o.at, fmt.Sprintf("write %q; known are %s", instead, strings.Join(k.known, ", ")))
		}
	}
}

// absent returns those of the keys that are not given: a key that is there was
// not misspelt elsewhere.
func (o *object) absent(known []string) []string {
	return slices.DeleteFunc(slices.Clone(known), func(k string) bool { _, given := o.fields[k]; return given })
}

// nearest returns the known key that somebody may have meant, at most so many
// slips away, and one for short keys; "" when there is none. Case and underscores
// do not count.
func nearest(key string, known []string, slips int) string {
	for n := range slips + 1 {
		for _, k := range known {
			plain := plainKey(k)
			if n > 1 && len(plain) < 6 {
				continue
			}
			if spelling.Nearest(plainKey(key), []string{plain}, n) != "" {
				return k
			}
		}
	}
	return ""
}

func plainKey(s string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(s))
}
