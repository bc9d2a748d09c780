package cli

import (
	"context"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

func (s *session) imagesCommand() *cli.Command {
	return s.command(cli.Command{
		Name: "images", Usage: "list the container images that waiting tasks need", Category: categoryDaemon, ArgsUsage: "[prune]",
		Description: "An image is fetched while its tasks wait, once for all of them. It is ready, waiting (looked for,\n" +
			"or fetched), or bad: then it can never be had, and its tasks fail. Remove none that is listed here:\n" +
			"it would have to be fetched again.\n\n" +
			"With prune, the images that were fetched for tasks of this queue and that no task needs any more are\n" +
			"removed; those that were there before, or that a container uses, never.",
		Flags: []cli.Flag{boolFlag("dry-run", "with prune: only say what would be removed"), jsonFlag()},
		Action: func(c *cli.Context) error {
			switch {
			case c.NArg() == 1 && c.Args().First() == "prune":
				return s.pruneImages(c)
			case c.NArg() > 0:
				return usagef("images takes no arguments, or prune")
			case c.Bool("dry-run"):
				return usagef("--dry-run is for dspy-agent images prune")
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

// pruneImages removes what no task needs.
func (s *session) pruneImages(c *cli.Context) error {
	return s.withClient(c, writes, func(ctx context.Context, cl *client) error {
		answer, err := cl.PruneImages(ctx, &pb.PruneImagesRequest{DryRun: c.Bool("dry-run")})
		if err != nil {
			return err
		}
		if len(answer.GetImages()) == 0 && s.out.tty {
			s.out.printf("no image was fetched for tasks of this queue\n")
		}
		verb := map[bool]string{false: "removed", true: "would be removed"}[c.Bool("dry-run")]
		for _, i := range answer.GetImages() {
			if c.Bool("json") {
				if err := writeJSONLine(s.out, jsonPruned{Image: i.GetImage(), Bytes: i.GetBytes(), Kept: i.GetKept()}); err != nil {
					return err
				}
				continue
			}
			what := verb
			if i.GetKept() != "" {
				what = "kept: " + i.GetKept()
			}
			s.out.printf("%s\t%s\t%s\n", oneLine(i.GetImage()), humanize.Bytes(uint64(max(i.GetBytes(), 0))), oneLine(what))
		}
		return s.out.err
	})
}

// jsonPruned is a line of images prune.
type jsonPruned struct {
	Image string `json:"image" doc:"as tasks named it"`
	Bytes int64  `json:"bytes" doc:"that it takes, those that it shares with others included"`
	Kept  string `json:"kept,omitempty" doc:"why it is still there; left out: it was removed, or would be"`
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
