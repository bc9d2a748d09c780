package cli

import (
	"context"

	"github.com/urfave/cli/v2"

	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

func (s *session) imagesCommand() *cli.Command {
	return s.command(cli.Command{
		Name: "images", Usage: "list the container images that waiting tasks need", Category: categoryDaemon,
		Description: "An image is fetched while its tasks wait, once for all of them. It is ready, waiting (looked for,\n" +
			"or fetched), or bad: then it can never be had, and its tasks fail. Remove none that is listed here:\n" +
			"it would have to be fetched again.",
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			return s.withClient(c, reads, func(ctx context.Context, cl *client) error {
				answer, err := cl.ListImages(ctx, &pb.ListImagesRequest{})
				if err != nil {
					return err
				}
				if c.Bool("json") {
					return s.imagesJSON(answer.GetImages())
				}
				s.images(answer.GetImages())
				return nil
			})
		},
	})
}

// images prints a table.
func (s *session) images(all []*pb.NeededImage) {
	if len(all) == 0 && s.out.tty {
		s.out.printf("no waiting task needs an image\n")
		return
	}
	g := grid{header: []string{"IMAGE", "STATE", "DETAIL"}}
	for _, i := range all {
		g.add(oneLine(i.GetImage()), i.GetState(), oneLine(i.GetDetail()))
	}
	g.write(s.out)
}

// imagesJSON prints a line for each.
func (s *session) imagesJSON(all []*pb.NeededImage) error {
	for _, i := range all {
		if err := writeJSONLine(s.out, jsonImage{Image: i.GetImage(), State: i.GetState(), Detail: i.GetDetail()}); err != nil {
			return err
		}
	}
	return nil
}

// jsonImage is a line of images.
type jsonImage struct {
	Image  string `json:"image" doc:"as tasks name it"`
	State  string `json:"state" doc:"ready, waiting or bad"`
	Detail string `json:"detail,omitempty" doc:"how it is, as a sentence that begins with the image"`
}
