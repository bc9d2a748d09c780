package payload

import (
	"fmt"
	"math"
	"strings"
)

// gigabyte is what GPUs are sold by: a card "with 80 GB" has a little more than
// 80 times that, and less than 80 GiB, so that a request for all of it fits.
const gigabyte = 1_000_000_000

// maxGigabytes bounds a bare number: beyond it somebody meant MB or bytes.
const maxGigabytes = 10_000

// units are how gpu_memory may say its unit.
var units = []struct {
	name  string
	bytes float64
}{
	{"mib", 1 << 20}, {"gib", 1 << 30}, {"tib", 1 << 40},
	{"mb", 1e6}, {"gb", gigabyte}, {"tb", 1e12},
	{"m", 1e6}, {"g", gigabyte}, {"t", 1e12},
}

// gpuMemory returns bytes of GPU memory: a bare number is GB, and text may name
// its unit.
func (o *object) gpuMemory(key string) int64 {
	if !o.fields.has(key) {
		return 0
	}
	s, scale := strings.ToLower(o.figures(key)), float64(gigabyte)
	for _, u := range units {
		if number, ok := strings.CutSuffix(s, u.name); ok {
			s, scale = strings.TrimRight(number, " "), u.bytes
			break
		}
	}
	v, ok := decimal(s)
	if size := v * scale; ok && size >= 0 && size <= maxGigabytes*gigabyte {
		if v > 0 {
			size = max(size, 1) // 0 would mean "none"
		}
		return int64(math.Ceil(size))
	}
	o.mismatch(key, fmt.Sprintf("a number of GB (20), or text with a unit (\"20GB\", \"512MiB\"), at most %d GB", maxGigabytes))
	return 0
}
