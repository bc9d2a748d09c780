package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/app"
	pb "github.com/dspy-agent/dspy-agent/proto/env_manager/v1"
)

// Words of a pull in env-manager's contract.
const (
	pullComplete = "complete"
	pullError    = "error"
)

func (s *session) servicesPull(c *cli.Context, names []string) error {
	return s.withEnvManager(c, false, func(ctx context.Context, em *envManager) error {
		images, err := s.imagesOf(c, names)
		if err != nil {
			return err
		}
		err = s.pullImages(ctx, em, images)
		if interrupted(ctx) {
			s.err.printf("%sgiven up; Docker keeps what has come, and the next pull goes on from there\n", s.err.afterCtrlC())
			return ctx.Err()
		}
		return err
	})
}

// imagesOf returns the images of services. A name with a tag or a registry is that of an
// image itself.
func (s *session) imagesOf(c *cli.Context, names []string) ([]string, error) {
	cfg, err := s.settings(c)
	if err != nil {
		return nil, err
	}
	defined, err := app.DefineServices(c.Context, cfg, s.env.Environ)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		names = defined.Names() // a call without names is for the required ones alone
	}
	var images []string
	for _, name := range names {
		image, known := defined.Image(name)
		switch {
		case known:
		case strings.ContainsAny(name, ":/@"):
			image = name
		default:
			return nil, defined.Known([]string{name})
		}
		images = append(images, image)
	}
	return images, nil
}

func (s *session) pullImages(ctx context.Context, em *envManager, images []string) error {
	stream, err := em.PullImages(ctx, &pb.PullImagesRequest{ImageNames: images})
	if err != nil {
		return err
	}
	b := board{out: s.out}
	var failed []string
	for {
		p, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		over := p.GetStatus() == pullComplete || p.GetStatus() == pullError
		b.note(p.GetImageName(), p.GetStatus(), pullText(p), over, over)
		if p.GetStatus() == pullError {
			failed = append(failed, p.GetImageName()+": "+p.GetMessage())
		}
		if s.out.err != nil {
			return s.out.err
		}
	}
	if len(failed) > 0 {
		return &exitError{code: exitFailed, msg: fmt.Sprintf("%d of %s could not be fetched\n  %s", len(failed), count(int64(len(b.all)), "image"), strings.Join(failed, "\n  "))}
	}
	return nil
}

// pullText says how far an image is.
func pullText(p *pb.ImagePullProgress) string {
	switch {
	case p.GetMessage() != "":
		return p.GetMessage()
	case p.GetStatus() == pullComplete || p.GetTotal() <= 0:
		return ""
	}
	return fmt.Sprintf("%d%% of %s", p.GetProgressPercent(), humanize.IBytes(uint64(p.GetTotal())))
}
