package task

import (
	"strconv"
	"strings"
)

// shapeImage is which field of a shape is the image.
const shapeImage = 7

// ShapeImage reads out of a shape which container image it needs; "" = none, or the
// text is no shape.
func ShapeImage(shape string) string {
	for i := 0; ; i++ {
		length, rest, found := strings.Cut(shape, ":")
		n, err := strconv.Atoi(length)
		if !found || err != nil || n < 0 || n > len(rest) {
			return ""
		}
		if i == shapeImage {
			return rest[:n]
		}
		shape = rest[n:]
	}
}

// ParseShape reads out of a shape which class it is of and what it needs of the
// machine: that is what a whole class of shapes can be ruled out by. ok is false
// for a text that is no shape.
func ParseShape(shape string) (class string, cpuMilli, memBytes int64, ok bool) {
	fields := make([]string, 3)
	for i := range fields {
		length, rest, found := strings.Cut(shape, ":")
		n, err := strconv.Atoi(length)
		if !found || err != nil || n < 0 || n > len(rest) {
			return "", 0, 0, false
		}
		fields[i], shape = rest[:n], rest[n:]
	}
	cpuMilli, cpuErr := strconv.ParseInt(fields[1], 36, 64)
	memBytes, memErr := strconv.ParseInt(fields[2], 36, 64)
	return fields[0], cpuMilli, memBytes, cpuErr == nil && memErr == nil
}
