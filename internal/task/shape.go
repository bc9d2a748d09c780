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
	fields, _, ok := shapeFields(shape, 3)
	if !ok {
		return "", 0, 0, false
	}
	cpuMilli, cpuErr := strconv.ParseInt(fields[1], 36, 64)
	memBytes, memErr := strconv.ParseInt(fields[2], 36, 64)
	return fields[0], cpuMilli, memBytes, cpuErr == nil && memErr == nil
}

// ShapeNeedsGPU says whether tasks of a shape need a GPU.
func ShapeNeedsGPU(shape string) bool {
	_, rest, ok := shapeFields(shape, 3)
	// Whole GPUs, memory of one, model and profile: none of them.
	return ok && !strings.HasPrefix(rest, "1:01:00:0:")
}

// shapeFields reads the first n fields.
func shapeFields(shape string, n int) (fields []string, rest string, ok bool) {
	fields = make([]string, n)
	for i := range fields {
		length, rest, found := strings.Cut(shape, ":")
		n, err := strconv.Atoi(length)
		if !found || err != nil || n < 0 || n > len(rest) {
			return nil, "", false
		}
		fields[i], shape = rest[:n], rest[n:]
	}
	return fields, shape, true
}
