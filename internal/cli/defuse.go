package cli

import (
	"context"
	"strings"
	"unicode"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// What the daemon tells comes from programs, file names and whoever submitted the
// task, and what is printed acts on the terminal: an escape sequence in the name of
// a task could move the cursor, set the title or hide a line. So a command that
// prints text has all text in the daemon's answers defused, in one place and before
// it sees them. With --json it gets them as they are: the encoder escapes.
//
// Bytes are not text and stay: the output of a task is printed as it was written.

// defused is a connection whose answers hold no control characters.
type defused struct{ grpc.ClientConnInterface }

// Invoke makes a call.
func (c defused) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	err := c.ClientConnInterface.Invoke(ctx, method, args, reply, opts...)
	defuseMessage(reply)
	return err
}

// NewStream begins a stream.
func (c defused) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := c.ClientConnInterface.NewStream(ctx, desc, method, opts...)
	if err != nil {
		return nil, err
	}
	return defusedStream{s}, nil
}

type defusedStream struct{ grpc.ClientStream }

// RecvMsg receives the next message.
func (s defusedStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	defuseMessage(m)
	return err
}

func defuseMessage(m any) {
	if msg, ok := m.(proto.Message); ok {
		defuseFields(msg.ProtoReflect())
	}
}

// defuseFields defuses every string of a message, in place.
func defuseFields(m protoreflect.Message) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap():
			defuseMap(fd, v.Map())
		case fd.IsList():
			for i := range v.List().Len() {
				if clean, changed := defuseValue(fd, v.List().Get(i)); changed {
					v.List().Set(i, clean)
				}
			}
		default:
			if clean, changed := defuseValue(fd, v); changed {
				m.Set(fd, clean)
			}
		}
		return true
	})
}

func defuseMap(fd protoreflect.FieldDescriptor, m protoreflect.Map) {
	fresh := map[string]protoreflect.Value{}
	m.Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		clean, changed := defuseValue(fd.MapValue(), v)
		if fd.MapKey().Kind() == protoreflect.StringKind && defuse(k.String()) != k.String() {
			m.Clear(k)
			changed = true
		}
		if changed {
			fresh[defuse(k.String())] = clean
		}
		return true
	})
	for k, v := range fresh {
		m.Set(protoreflect.ValueOfString(k).MapKey(), v)
	}
}

func defuseValue(fd protoreflect.FieldDescriptor, v protoreflect.Value) (clean protoreflect.Value, changed bool) {
	switch fd.Kind() {
	case protoreflect.StringKind:
		s := defuse(v.String())
		return protoreflect.ValueOfString(s), s != v.String()
	case protoreflect.MessageKind, protoreflect.GroupKind:
		defuseFields(v.Message())
	}
	return v, false
}

// defuse puts a text on one line, without the control characters that would act on
// the terminal.
func defuse(t string) string { return strings.Map(harmless, t) }

// defuseLines is defuse for a text that may have several lines.
func defuseLines(t string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' {
			return r
		}
		return harmless(r)
	}, t)
}

// oneLine is defuse for a text whose blank ends say nothing.
func oneLine(t string) string { return defuse(strings.TrimSpace(t)) }

// harmless returns what is printed for a character that came from elsewhere.
func harmless(r rune) rune {
	switch {
	case r == '\n' || r == '\t' || r == '\r':
		return ' '
	case actsOnTerminal(r):
		return '?'
	}
	return r
}

// actsOnTerminal says whether a terminal does something with a character instead
// of showing it: C0 and C1 controls, and the marks that reorder text. The line and
// paragraph separators break a line for some.
func actsOnTerminal(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
}
