package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/image"
)

// Image is what an engine knows of one that it has.
type Image struct {
	ID         string
	Entrypoint []string
	Command    []string
	Dir        string
	User       string
	Size       int64
	Volumes    []string // paths that are to be volumes
}

// Image looks at an image that the engine has. The error matches ErrNoImage when it
// has none of that name.
func (c *Client) Image(ctx context.Context, ref string) (Image, error) {
	r, err := c.api.ImageInspect(ctx, ref)
	if err != nil {
		return Image{}, c.fail(doingImage, ref, err)
	}
	out := Image{ID: r.ID, Size: r.Size}
	if r.Config != nil {
		out.Entrypoint, out.Command, out.Dir, out.User = r.Config.Entrypoint, r.Config.Cmd, r.Config.WorkingDir, r.Config.User
		out.Volumes = slices.Sorted(maps.Keys(r.Config.Volumes))
	}
	return out, nil
}

// RemoveImage takes a name from an image, and removes the image if that was its last. The
// error matches ErrConflict when a container uses it.
func (c *Client) RemoveImage(ctx context.Context, ref string) error {
	if _, err := c.api.ImageRemove(ctx, ref, image.RemoveOptions{PruneChildren: true}); err != nil {
		return c.fail(doingUnimage, ref, err)
	}
	return nil
}

// CheckImage says what is wrong with the name of an image; it matches ErrInvalid.
func CheckImage(ref string) error {
	if _, err := reference.ParseAnyReference(ref); err != nil {
		return fmt.Errorf("%w: %q is no name of an image: %w", ErrInvalid, ref, err)
	}
	return nil
}

// Progress is how far a pull has come.
type Progress struct {
	Current, Total int64 // bytes, of the layers that are known so far
	Extracting     bool  // all is here, and is being unpacked
}

// Pull fetches an image, with the user's credentials for its registry. progress is
// told now and then; it must not wait.
func (c *Client) Pull(ctx context.Context, ref string, progress func(Progress)) error {
	if err := CheckImage(ref); err != nil {
		return err
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return fmt.Errorf("%w: %q cannot be fetched: an id names an image that is here or nowhere: %w", ErrNoImage, ref, err)
	}
	auth, err := c.creds.header(ctx, reference.Domain(named))
	if err != nil {
		return fmt.Errorf("%w: credentials for %s: %w", ErrUnauthorised, reference.Domain(named), err)
	}
	body, err := c.api.ImagePull(ctx, ref, image.PullOptions{RegistryAuth: auth})
	if err != nil {
		return c.fail(doingPull, ref, err)
	}
	defer body.Close() //nolint:errcheck // only read from
	if err := readPull(body, progress); err != nil {
		return c.fail(doingPull, ref, err)
	}
	return nil
}

// message is a line of the stream of a pull.
type message struct {
	ID       string `json:"id"`
	Status   string `json:"status"`
	Progress *struct {
		Current int64 `json:"current"`
		Total   int64 `json:"total"`
	} `json:"progressDetail"`
	Error *struct {
		Message string `json:"message"`
	} `json:"errorDetail"`
	Text string `json:"error"`
}

// readPull reads the stream of a pull to its end. A pull that fails after it began
// says so in the stream; one that was cut off does not say that it is complete.
func readPull(r io.Reader, progress func(Progress)) error {
	type layer struct{ current, total int64 }
	layers := map[string]layer{}
	d := json.NewDecoder(r)
	for {
		var m message
		err := d.Decode(&m)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case m.Error != nil && m.Error.Message != "":
			return errors.New(m.Error.Message)
		case m.Text != "":
			return errors.New(m.Text)
		}
		l, known := layers[m.ID]
		switch m.Status {
		case "Downloading":
			if m.Progress != nil {
				l = layer{m.Progress.Current, max(m.Progress.Total, l.total)}
			}
		case "Verifying Checksum", "Download complete", "Extracting", "Pull complete":
			l.current = l.total
		case "Pulling fs layer":
		default:
			if !known {
				continue
			}
		}
		layers[m.ID] = l
		var p Progress
		for _, l := range layers {
			p.Current += l.current
			p.Total += l.total
		}
		p.Extracting = p.Total > 0 && p.Current == p.Total
		progress(p)
	}
}
