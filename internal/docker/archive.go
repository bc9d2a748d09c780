package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"path"
	"slices"
	"time"

	"github.com/docker/docker/api/types/container"
)

// File is one that is put into a container.
type File struct {
	Path     string // absolute
	Data     []byte
	Dir      bool
	Mode     int64
	UID, GID int
}

// Put puts files into a container that need not run, in the order in which they are
// given.
func (c *Client) Put(ctx context.Context, name string, files []File) error {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: path.Clean("/" + f.Path)[1:], Mode: f.Mode, Size: int64(len(f.Data)), Uid: f.UID, Gid: f.GID, ModTime: time.Unix(0, 0), Typeflag: tar.TypeReg}
		if f.Dir {
			h.Typeflag, h.Name, h.Size = tar.TypeDir, h.Name+"/", 0
		}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if !f.Dir {
			if _, err := w.Write(f.Data); err != nil {
				return err
			}
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := c.api.CopyToContainer(ctx, name, "/", &b, container.CopyToContainerOptions{}); err != nil {
		return c.fail("put files into container", name, err)
	}
	return nil
}

// Changed says whether a path in a container is other than in its image.
func (c *Client) Changed(ctx context.Context, name, path string) (bool, error) {
	all, err := c.api.ContainerDiff(ctx, name)
	if err != nil {
		return false, c.fail("look at the files of container", name, err)
	}
	return slices.ContainsFunc(all, func(f container.FilesystemChange) bool { return f.Path == path }), nil
}

// ErrNoFile and ErrStrangeFile are what Get finds in place of a file.
var (
	ErrNoFile      = errors.New("no such file in the container")
	ErrStrangeFile = errors.New("not a regular file")
)

// Get returns a file of a container that need not run, but no more than limit bytes
// and one. What is no regular file matches ErrStrangeFile.
func (c *Client) Get(ctx context.Context, name, file string, limit int64) ([]byte, error) {
	body, _, err := c.api.CopyFromContainer(ctx, name, file)
	if err != nil {
		err = c.fail("get a file of container", name, err)
		if errors.Is(err, ErrNoContainer) {
			if _, gone := c.Inspect(ctx, name); gone == nil {
				return nil, ErrNoFile
			}
		}
		return nil, err
	}
	defer body.Close() //nolint:errcheck // only read from
	r := tar.NewReader(body)
	h, err := r.Next()
	if err != nil {
		return nil, c.fail("get a file of container", name, err)
	}
	if h.Typeflag != tar.TypeReg {
		return nil, ErrStrangeFile
	}
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, c.fail("get a file of container", name, err)
	}
	return b, nil
}
