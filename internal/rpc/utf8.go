package rpc

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Text makes a string fit for the wire, whose strings are UTF-8. What comes from
// programs, file names and other machines need not be.
func Text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// firstBadText names the first field of a message that holds a string which is
// not UTF-8; "" when there is none.
func firstBadText(m protoreflect.Message, prefix string) (name string) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		path := prefix + string(fd.Name())
		switch {
		case fd.IsList():
			name = badInList(fd, v.List(), path)
		case fd.IsMap():
			name = badInMap(fd, v.Map(), path)
		default:
			name = badValue(fd, v, path)
		}
		return name == ""
	})
	return name
}

func badInList(fd protoreflect.FieldDescriptor, list protoreflect.List, path string) string {
	for i := range list.Len() {
		if name := badValue(fd, list.Get(i), fmt.Sprintf("%s[%d]", path, i)); name != "" {
			return name
		}
	}
	return ""
}

func badInMap(fd protoreflect.FieldDescriptor, m protoreflect.Map, path string) (name string) {
	m.Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		at := fmt.Sprintf("%s[%q]", path, k.String())
		if fd.MapKey().Kind() == protoreflect.StringKind && !utf8.ValidString(k.String()) {
			name = at
		} else {
			name = badValue(fd.MapValue(), v, at)
		}
		return name == ""
	})
	return name
}

func badValue(fd protoreflect.FieldDescriptor, v protoreflect.Value, path string) string {
	switch fd.Kind() {
	case protoreflect.StringKind:
		if !utf8.ValidString(v.String()) {
			return path
		}
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return firstBadText(v.Message(), path+".")
	}
	return ""
}
