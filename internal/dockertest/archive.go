package dockertest

import (
	"io"
	"os"
	"testing"

	"github.com/docker/docker/api/types/image"
)

// Import gives an engine an image that is made of a tar archive of its files, with
// lines as in a Dockerfile for its settings: CMD, ENTRYPOINT, ENV, EXPOSE, USER,
// VOLUME, WORKDIR.
func (e *Engine) Import(t testing.TB, ref, path string, changes ...string) {
	t.Helper()
	archive, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	c := e.Client(t)
	answer, err := c.ImageImport(t.Context(), image.ImportSource{Source: archive, SourceName: "-"}, ref, image.ImportOptions{Changes: changes})
	if err != nil {
		t.Fatalf("import %s as %s: %v", path, ref, err)
	}
	defer answer.Close()
	said, err := io.ReadAll(answer)
	if err != nil {
		t.Fatalf("import %s as %s: %v", path, ref, err)
	}
	if _, err := c.ImageInspect(t.Context(), ref); err != nil {
		t.Fatalf("import %s as %s: %v\n%s", path, ref, err, said)
	}
}

// Tag gives an image of an engine another name.
func (e *Engine) Tag(t testing.TB, ref, as string) {
	t.Helper()
	if err := e.Client(t).ImageTag(t.Context(), ref, as); err != nil {
		t.Fatalf("tag %s as %s: %v", ref, as, err)
	}
}
