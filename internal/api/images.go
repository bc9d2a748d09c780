package api

import (
	"context"

	"github.com/dspy-agent/dspy-agent/internal/task"
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

// PrunedImage is an image that was fetched for tasks of this queue.
type PrunedImage struct {
	Name  string
	Bytes int64
	Kept  string // why it is still there; "" = it was removed, or would be
}

// PruneImages removes those that no task needs.
func (s service) PruneImages(ctx context.Context, req *pb.PruneImagesRequest) (*pb.PruneImagesResponse, error) {
	if s.opts.PruneImages == nil {
		return nil, task.Errorf(task.CodeUnavailable, "images are removed by the daemon, and none runs; start one: dspy-agent start")
	}
	all, err := s.opts.PruneImages(ctx, req.GetDryRun())
	if err != nil {
		return nil, err
	}
	answer := &pb.PruneImagesResponse{}
	for _, i := range all {
		answer.Images = append(answer.Images, &pb.PrunedImage{Image: text(i.Name), Bytes: i.Bytes, Kept: text(i.Kept)})
	}
	return answer, nil
}
