package dockertest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/docker/docker/client"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Names of the images that LoadStandin and LoadShell load. All engines read them
// alike: without a host in front, each has another registry in mind.
const (
	Standin = "localhost/dspy-standin:1"
	Shell   = "localhost/dspy-shell:1"
)

// LoadStandin gives an engine the image Standin, and returns its name.
func (e *Engine) LoadStandin(t testing.TB) string {
	t.Helper()
	e.Load(t, Standin, StandinImage(t))
	return Standin
}

// LoadShell gives an engine the image Shell, and returns its name.
func (e *Engine) LoadShell(t testing.TB) string {
	t.Helper()
	e.Load(t, Shell, ShellImage(t))
	return Shell
}

// Load gives an engine an image under a name.
func (e *Engine) Load(t testing.TB, ref string, img v1.Image) {
	t.Helper()
	Load(t, e.Client(t), ref, img)
}

// Load gives the engine of a client an image under a name.
func Load(t testing.TB, c *client.Client, ref string, img v1.Image) {
	t.Helper()
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := tarball.Write(tag, img, &archive); err != nil {
		t.Fatal(err)
	}
	answer, err := c.ImageLoad(t.Context(), &archive)
	if err != nil {
		t.Fatalf("load %s: %v", ref, err)
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatalf("load %s: %v", ref, err)
	}
	if _, err := c.ImageInspect(t.Context(), ref); err != nil {
		t.Fatalf("load %s: %v\n%s", ref, err, said)
	}
}

// built are the images and programs of this binary.
var built struct {
	mu       sync.Mutex
	programs map[string]func() (v1.Image, error) // by package

	shell    sync.Once
	image    v1.Image
	shellErr error

	init     sync.Once
	initPath string
	initErr  error
	dirs     []string // to be removed by Main
}

// StandinImage returns an image of the program in standin, which is all there is
// in it.
func StandinImage(t testing.TB) v1.Image {
	t.Helper()
	return ProgramImage(t, "internal/dockertest/standin", v1.Config{Entrypoint: []string{"/standin"}})
}

// ProgramImage returns an image with a program of this module, built without cgo,
// at / under the name of its package, and a /tmp. A binary builds each once, and
// its images share that layer.
func ProgramImage(t testing.TB, pkg string, config v1.Config) v1.Image {
	t.Helper()
	img, err := builderOf(pkg)()
	if err != nil {
		t.Fatalf("dockertest: %v", err)
	}
	img, err = mutate.Config(img, config)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func builderOf(pkg string) func() (v1.Image, error) {
	built.mu.Lock()
	defer built.mu.Unlock()
	if built.programs == nil {
		built.programs = map[string]func() (v1.Image, error){}
	}
	if built.programs[pkg] == nil {
		built.programs[pkg] = sync.OnceValues(func() (v1.Image, error) { return programImage(pkg) })
	}
	return built.programs[pkg]
}

func programImage(pkg string) (v1.Image, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "dspy-program-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a folder too many in the temporary one
	path := filepath.Join(dir, filepath.Base(pkg))
	if err := buildStatic(root, path, "./"+pkg); err != nil {
		return nil, err
	}
	var files tree
	files.dir("tmp", 0o1777)
	if err := files.copy(filepath.Base(pkg), path); err != nil {
		return nil, err
	}
	return files.image(v1.Config{})
}

// Init returns the path of dspy-init, which is built once for a binary.
func Init(t testing.TB) string {
	t.Helper()
	built.init.Do(func() { built.initPath, built.initErr = buildInit() })
	if built.initErr != nil {
		t.Fatalf("dockertest: %v", built.initErr)
	}
	return built.initPath
}

func buildInit() (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "dspy-init-")
	if err != nil {
		return "", err
	}
	built.dirs = append(built.dirs, dir)
	path := filepath.Join(dir, "dspy-init")
	return path, buildStatic(root, path, "./cmd/dspy-init")
}

// buildStatic builds a program that runs in any image.
func buildStatic(root, path, pkg string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", path, pkg)
	cmd.Dir = root
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// ShellImage returns an image with Debian's busybox: a shell, and small copies of
// the usual commands.
func ShellImage(t testing.TB) v1.Image {
	t.Helper()
	built.shell.Do(func() { built.image, built.shellErr = shellImage() })
	if built.shellErr != nil {
		t.Fatalf("dockertest: %v", built.shellErr)
	}
	return built.image
}

func shellImage() (v1.Image, error) {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return nil, fmt.Errorf("an image with a shell takes busybox: apt-get install busybox-static, or scripts/setup-tests: %w", err)
	}
	applets, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("busybox --list: %w", err)
	}
	var files tree
	files.dir("tmp", 0o1777)
	files.dir("bin", 0o755)
	if err := files.copy("bin/busybox", busybox); err != nil {
		return nil, err
	}
	libraries, err := loaded(busybox)
	if err != nil {
		return nil, err
	}
	for _, library := range libraries {
		if err := files.copy(strings.TrimPrefix(library, "/"), library); err != nil {
			return nil, err
		}
	}
	for applet := range strings.FieldsSeq(string(applets)) {
		if applet != "busybox" {
			files.link("bin/"+applet, "busybox")
		}
	}
	return files.image(v1.Config{Env: []string{"PATH=/bin"}, Cmd: []string{"/bin/sh"}})
}

// loaded returns what the loader brings in for a program, itself included; nothing
// for a static one.
func loaded(program string) ([]string, error) {
	cmd := exec.Command("ldd", program)
	cmd.Env = append(cmd.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), "not a dynamic executable") {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ldd %s: %w\n%s", program, err, out)
	}
	var paths []string
	for word := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(word, "/") {
			paths = append(paths, word)
		}
	}
	return paths, nil
}

// Heavier returns the image with a layer of so many bytes more, which nothing
// compresses: a pull that takes its time. The same seed gives the same layer.
func Heavier(t testing.TB, img v1.Image, size int, seed uint64) v1.Image {
	t.Helper()
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	ballast := make([]byte, size)
	rand.NewChaCha8(key).Read(ballast) //nolint:errcheck // it never fails
	var files tree
	files.file(fmt.Sprintf("ballast-%d", seed), ballast)
	layer, err := files.layer()
	if err != nil {
		t.Fatal(err)
	}
	heavier, err := mutate.AppendLayers(img, layer)
	if err != nil {
		t.Fatal(err)
	}
	return heavier
}

// tree is what a layer is made of. The first failure stays.
type tree struct {
	archive bytes.Buffer
	err     error
}

func (f *tree) add(h *tar.Header, content []byte) {
	if f.err != nil {
		return
	}
	// One writer for each, without the end mark that Close would write.
	w := tar.NewWriter(&f.archive)
	if f.err = w.WriteHeader(h); f.err != nil {
		return
	}
	if _, f.err = w.Write(content); f.err == nil {
		f.err = w.Flush()
	}
}

func (f *tree) dir(name string, mode int64) {
	f.add(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode}, nil)
}

func (f *tree) file(name string, content []byte) {
	f.add(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: int64(len(content))}, content)
}

func (f *tree) link(name, to string) {
	f.add(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to, Mode: 0o777}, nil)
}

func (f *tree) copy(name, path string) error {
	content, err := os.ReadFile(path)
	if err == nil {
		f.file(name, content)
	}
	return err
}

func (f *tree) layer() (v1.Layer, error) {
	if f.err != nil {
		return nil, f.err
	}
	if err := tar.NewWriter(&f.archive).Close(); err != nil {
		return nil, err
	}
	// Each engine of a binary is given the same layers.
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(f.archive.Bytes())), nil
	}, tarball.WithCompressionLevel(gzip.BestSpeed), tarball.WithCompressedCaching)
}

func (f *tree) image(config v1.Config) (v1.Image, error) {
	layer, err := f.layer()
	if err != nil {
		return nil, err
	}
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
		OS: "linux", Architecture: runtime.GOARCH, Config: config, RootFS: v1.RootFS{Type: "layers"},
	})
	if err != nil {
		return nil, err
	}
	return mutate.AppendLayers(img, layer)
}
