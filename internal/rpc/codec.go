package rpc

import (
	"google.golang.org/grpc/encoding"
	protobuf "google.golang.org/grpc/encoding/proto" // importing it registers gRPC's own codec
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// Encoded is a message as it goes over the wire. It goes out any number of times
// and is never changed.
type Encoded []byte

// Encode does for a message that many streams send what gRPC would do for each.
func Encode(m proto.Message) (Encoded, error) { return proto.Marshal(m) }

// codec is gRPC's own for protobuf, but that it passes on what was encoded before.
// See docs/adr/0021-encoded-once.md.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(protobuf.Name)} }

// Marshal returns the message as it goes over the wire. What was encoded before is
// not copied: gRPC reads it, and leaves its memory to the garbage collector.
func (c codec) Marshal(m any) (mem.BufferSlice, error) {
	if ready, ok := m.(Encoded); ok {
		return mem.BufferSlice{mem.SliceBuffer(ready)}, nil
	}
	return c.CodecV2.Marshal(m)
}
