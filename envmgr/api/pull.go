package api

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/env_manager/v1"
)

// mostPulls is how many images one call pulls at a time, and mostImages how many it may
// name.
const (
	mostPulls  = 3
	mostImages = 100
)

// PullImages fetches images, those of all required services if none is named, and tells
// how far each is. One that is here is complete at once.
func (s *Service) PullImages(req *pb.PullImagesRequest, stream grpc.ServerStreamingServer[pb.ImagePullProgress]) error {
	images := slices.Compact(slices.Sorted(slices.Values(req.GetImageNames())))
	if len(images) == 0 {
		images = s.images()
	}
	if len(images) > mostImages {
		return task.Errorf(task.CodeInvalid, "image_names has %d images; at most %d are allowed", len(images), mostImages)
	}
	for _, ref := range images {
		if err := docker.CheckImage(ref); err != nil {
			return task.Errorf(task.CodeInvalid, "%w", err)
		}
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	told := make(chan *pb.ImagePullProgress)
	var wg sync.WaitGroup
	slots := make(chan struct{}, mostPulls)
	for _, ref := range images {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			s.pull(ctx, ref, told)
		})
	}
	go func() { wg.Wait(); close(told) }()
	var failed error
	for p := range told {
		if failed == nil {
			if failed = stream.Send(p); failed != nil {
				cancel()
			}
		}
	}
	return errors.Join(failed, stream.Context().Err())
}

// images are those of all required services.
func (s *Service) images() []string {
	var out []string
	for _, name := range s.Set.Names() {
		d, _ := s.Set.Get(name)
		if d.Required {
			out = append(out, d.Image)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// pullTold is how often the progress of one image is told.
const pullTold = 200 * time.Millisecond

func (s *Service) pull(ctx context.Context, ref string, told chan<- *pb.ImagePullProgress) {
	tell := func(p *pb.ImagePullProgress) {
		p.ImageName = ref
		told <- p // its reader takes all
	}
	if _, err := s.Engine.Image(ctx, ref); err == nil {
		tell(&pb.ImagePullProgress{Status: "complete", ProgressPercent: 100})
		return
	}
	var last time.Time
	err := s.Engine.Pull(ctx, ref, func(p docker.Progress) {
		if now := s.Now(); now.Sub(last) >= pullTold {
			last = now
			tell(progressOf(p))
		}
	})
	if err != nil {
		tell(&pb.ImagePullProgress{Status: "error", Message: err.Error()})
		return
	}
	tell(&pb.ImagePullProgress{Status: "complete", ProgressPercent: 100})
}

func progressOf(p docker.Progress) *pb.ImagePullProgress {
	out := &pb.ImagePullProgress{Status: "downloading", Current: p.Current, Total: p.Total}
	if p.Extracting {
		out.Status = "extracting"
	}
	if p.Total > 0 {
		out.ProgressPercent = int32(min(p.Current*100/p.Total, 99))
	}
	return out
}
