package rpc

import (
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// TestCodecPassesOnWhatIsEncoded holds that a message that was encoded before
// arrives as what it was, and that its memory is not copied for each stream.
func TestCodecPassesOnWhatIsEncoded(t *testing.T) {
	t.Parallel()
	want := &pb.TaskResult{TaskId: "a", Result: map[string]string{"exit_code": "0"}}
	ready, err := Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []any{want, ready, ready} {
		wire, err := newCodec().Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, again := m.(Encoded); again && &wire[0].ReadOnlyData()[0] != &ready[0] {
			t.Error("what was encoded is copied")
		}
		got := new(pb.TaskResult)
		if err := newCodec().Unmarshal(wire, got); err != nil || !proto.Equal(got, want) {
			t.Errorf("%T: got %v, %v, want %v", m, got, err, want)
		}
		wire.Free()
	}
	if _, err := newCodec().Marshal(42); err == nil {
		t.Error("a number goes out as a message")
	}
}
