package api

import (
	"context"

	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// NeededImage is a container image that a waiting task needs.
type NeededImage struct {
	Name  string
	Ready bool
	Bad   bool   // it can never be had
	Why   string // how it is, where it is not ready, as a sentence that begins with it
}

// The states of an image on the wire.
const (
	imageReady   = "ready"
	imageWaiting = "waiting"
	imageBad     = "bad"
)

// ListImages lists what waiting tasks need.
func (s service) ListImages(context.Context, *pb.ListImagesRequest) (*pb.ListImagesResponse, error) {
	answer := &pb.ListImagesResponse{}
	if s.opts.Images == nil {
		return answer, nil
	}
	for _, i := range s.opts.Images() {
		state := imageWaiting
		switch {
		case i.Ready:
			state = imageReady
		case i.Bad:
			state = imageBad
		}
		answer.Images = append(answer.Images, &pb.NeededImage{Image: text(i.Name), State: state, Detail: text(i.Why)})
	}
	return answer, nil
}
