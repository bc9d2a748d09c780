package access_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/access"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// secrets makes a directory with a certificate and a token.
func secrets(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "secrets")
	if err := access.MakeCertificate(dir, ourUID(), []string{"login1.example.org"}, time.Now(), false); err != nil {
		t.Fatal(err)
	}
	if err := access.MakeToken(dir, ourUID(), false); err != nil {
		t.Fatal(err)
	}
	return dir
}

// files of the secrets, in the order in which they are made.
var files = []string{access.CertFile, access.KeyFile, access.TokenFile}

func serverCert(dir string, uid uint32, now time.Time) (*access.Certificate, error) {
	return access.ServerCertificate(filepath.Join(dir, access.CertFile), filepath.Join(dir, access.KeyFile), uid, now)
}

func clientCert(dir string, uid uint32) (*access.Certificate, error) {
	return access.ClientCertificate(filepath.Join(dir, access.CertFile), uid, time.Now())
}

func readToken(dir string, uid uint32) (access.Token, error) {
	return access.ReadToken(filepath.Join(dir, access.TokenFile), uid)
}

// readers read each of the files.
var readers = map[string]func(dir string, uid uint32) error{
	access.CertFile:  func(dir string, uid uint32) error { _, err := clientCert(dir, uid); return err },
	access.KeyFile:   func(dir string, uid uint32) error { _, err := serverCert(dir, uid, time.Now()); return err },
	access.TokenFile: func(dir string, uid uint32) error { _, err := readToken(dir, uid); return err },
}

func TestSecretsAreOursAlone(t *testing.T) {
	dir := secrets(t)
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(readers) {
		t.Errorf("%d files, want %d", len(entries), len(readers))
	}
	for name, read := range readers {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
		if err := read(dir, ourUID()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := read(t.TempDir(), ourUID()); err == nil || errors.Is(err, access.ErrUnsafeFile) == errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s that is not there: %v", name, err)
		}
	}
}

// TestUnsafeSecretsAreRefused spoils one thing after another.
func TestUnsafeSecretsAreRefused(t *testing.T) {
	for name, read := range readers {
		for what, spoil := range map[string]func(dir, path string) error{
			"open to others": func(_, path string) error { return os.Chmod(path, 0o622) },
			"a link": func(_, path string) error {
				return errors.Join(os.Rename(path, path+".real"), os.Symlink(path+".real", path))
			},
			"a FIFO":               func(_, path string) error { return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)) },
			"a directory":          func(_, path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
			"huge":                 func(_, path string) error { return os.Truncate(path, 1<<20) },
			"in an open directory": func(dir, _ string) error { return os.Chmod(dir, 0o722) },
		} {
			t.Run(name+" "+what, func(t *testing.T) {
				dir := secrets(t)
				if err := spoil(dir, filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
				if err := read(dir, ourUID()); !errors.Is(err, access.ErrUnsafeFile) {
					t.Errorf("got %v, want that it is not safe", err)
				}
			})
		}
		t.Run(name+" of another user", func(t *testing.T) {
			dir, as := secrets(t), ourUID()
			if asRoot(t) {
				if err := os.Chown(filepath.Join(dir, name), nobody, nobody); err != nil {
					t.Fatal(err)
				}
			} else {
				as++
			}
			if err := read(dir, as); !errors.Is(err, access.ErrUnsafeFile) {
				t.Errorf("got %v, want that it is not safe", err)
			}
		})
	}
	t.Run("secrets are not for reading, certificates are", func(t *testing.T) {
		dir := secrets(t)
		for name, safe := range map[string]bool{access.CertFile: true, access.KeyFile: false, access.TokenFile: false} {
			if err := os.Chmod(filepath.Join(dir, name), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := readers[name](dir, ourUID()); (err == nil) != safe {
				t.Errorf("%s with mode 0644: %v", name, err)
			}
		}
	})
}

// TestSecretsAreNotMadeAnywhere refuses directories that others can reach.
func TestSecretsAreNotMadeAnywhere(t *testing.T) {
	dir := secrets(t)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	open := t.TempDir()
	if err := os.Chmod(open, 0o711); err != nil {
		t.Fatal(err)
	}
	for _, where := range []string{link, open} {
		if err := access.MakeToken(where, ourUID(), true); !errors.Is(err, access.ErrUnsafeFile) {
			t.Errorf("token in %s: %v", where, err)
		}
		if err := access.MakeCertificate(where, ourUID(), []string{"h"}, time.Now(), true); !errors.Is(err, access.ErrUnsafeFile) {
			t.Errorf("certificate in %s: %v", where, err)
		}
	}
}

func TestSecretsAreNotReplaced(t *testing.T) {
	dir := secrets(t)
	before := contents(t, dir)
	for _, err := range []error{
		access.MakeCertificate(dir, ourUID(), []string{"h"}, time.Now(), false), access.MakeToken(dir, ourUID(), false),
	} {
		if !errors.Is(err, access.ErrExists) || task.CodeOf(err) != task.CodeConflict {
			t.Errorf("made again: %v", err)
		}
	}
	if contents(t, dir) != before {
		t.Error("something was replaced")
	}
	for _, err := range []error{
		access.MakeCertificate(dir, ourUID(), []string{"h"}, time.Now(), true), access.MakeToken(dir, ourUID(), true),
	} {
		if err != nil {
			t.Errorf("with force: %v", err)
		}
	}
	if contents(t, dir) == before {
		t.Error("nothing was replaced")
	}
	for name, read := range readers {
		if err := read(dir, ourUID()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func contents(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	for _, name := range files {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		all.Write(data)
	}
	return all.String()
}

// TestCrashBetweenTwoFiles leaves what a crash would, and tries again.
func TestCrashBetweenTwoFiles(t *testing.T) {
	dir := secrets(t)
	if err := os.Remove(filepath.Join(dir, access.KeyFile)); err != nil { // the first time
		t.Fatal(err)
	}
	if err := access.MakeCertificate(dir, ourUID(), []string{"h"}, time.Now(), false); err != nil {
		t.Errorf("the same call again: %v", err)
	}
	old, err := os.ReadFile(filepath.Join(dir, access.KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := access.MakeCertificate(dir, ourUID(), []string{"h"}, time.Now(), true); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, access.KeyFile), old, 0o600); err != nil { // while renewing
		t.Fatal(err)
	}
	if _, err := serverCert(dir, ourUID(), time.Now()); task.CodeOf(err) != task.CodeInvalid {
		t.Errorf("files of two certificates: %v", err)
	}
}

// TestCertificateOfOtherHosts: one that clients refuse at an address is told, with the
// command that makes one for it and for all whom the present one serves.
func TestCertificateOfOtherHosts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "access")
	if err := access.MakeCertificate(dir, ourUID(), []string{"login1", "192.0.2.7"}, time.Now(), false); err != nil {
		t.Fatal(err)
	}
	cert, err := serverCert(dir, ourUID(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if said := cert.Mismatch("login1.:9443", "192.0.2.7:9444", "0.0.0.0:1", ":2", "127.0.0.1:3", "none"); said != "" {
		t.Errorf("it is for those: %s", said)
	}
	said := cert.Mismatch("192.0.2.2:9444", "login1:9443", "192.0.2.2:9443")
	for _, want := range []string{"not for 192.0.2.2,", "dspy-agent access tls --force login1 192.0.2.7 192.0.2.2;"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q does not say %q", said, want)
		}
	}
}

func TestCertificateEnds(t *testing.T) {
	dir := secrets(t)
	now := time.Now()
	cert, err := serverCert(dir, ourUID(), now)
	if err != nil {
		t.Fatal(err)
	}
	const day = 24 * time.Hour
	if w := cert.Warning(now); w != "" {
		t.Errorf("a new one warns: %s", w)
	}
	if w := cert.Warning(now.Add(701 * day)); !strings.Contains(w, "dspy-agent access tls --force") {
		t.Errorf("29 days before its end: %q", w)
	}
	if _, err := serverCert(dir, ourUID(), now.Add(731*day)); task.CodeOf(err) != task.CodeInvalid {
		t.Errorf("after its end: %v", err)
	}
}

func TestCertificateNamesHosts(t *testing.T) {
	for _, bad := range [][]string{nil, {""}, {"a b"}, {"0.0.0.0"}, {"*"}, {"fe80::1%eth0"}} {
		if _, _, err := access.NewCertificate(bad, time.Now()); task.CodeOf(err) != task.CodeInvalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
	cert, err := serverCert(secrets(t), ourUID(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(cert.Hosts()), "[login1.example.org localhost 127.0.0.1 ::1]"; got != want {
		t.Errorf("hosts %s, want %s", got, want)
	}
}

// TestClientTrustsThisServerAlone also if another has a certificate for the name.
func TestClientTrustsThisServerAlone(t *testing.T) {
	dir, other := secrets(t), secrets(t)
	for _, tc := range []struct {
		server, client, name string
		want                 bool
	}{
		{dir, dir, "login1.example.org", true},
		{dir, dir, "127.0.0.1", true},
		{dir, dir, "other.example.org", false},
		{other, dir, "login1.example.org", false},
	} {
		if err := handshake(t, tc.server, tc.client, tc.name); (err == nil) != tc.want {
			t.Errorf("the same certificate %v, as %s: %v", tc.server == tc.client, tc.name, err)
		}
	}
}

func handshake(t *testing.T, serverDir, clientDir, name string) error {
	t.Helper()
	server, err := serverCert(serverDir, ourUID(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	client, err := clientCert(clientDir, ourUID())
	if err != nil {
		t.Fatal(err)
	}
	lis := tls.NewListener(listening(t, "tcp4", "127.0.0.1:0"), server.ServerTLS())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if c, err := lis.Accept(); err == nil {
			_ = c.(*tls.Conn).HandshakeContext(context.Background())
			_ = c.Close()
		}
	}()
	defer func() { _ = lis.Close(); <-done }()
	conf := client.ClientTLS()
	conf.ServerName = name
	conn, err := (&tls.Dialer{Config: conf}).DialContext(t.Context(), "tcp", lis.Addr().String())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if v := conn.(*tls.Conn).ConnectionState().Version; v != tls.VersionTLS13 {
		return fmt.Errorf("version %x", v)
	}
	return nil
}

func TestToken(t *testing.T) {
	token, err := readToken(secrets(t), ourUID())
	if err != nil {
		t.Fatal(err)
	}
	text := token.Text()
	if !strings.HasPrefix(text, "dspyagent_") || len(text) != len("dspyagent_")+43 {
		t.Errorf("token %q", text)
	}
	if printed := fmt.Sprintf("%v %+v %#v %s", token, token, token, token); strings.Contains(printed, text) {
		t.Errorf("printed as %s", printed)
	}
	other, err := readToken(secrets(t), ourUID())
	if err != nil || other.Text() == text {
		t.Errorf("two tokens are one (%v)", err)
	}
	for header, want := range map[string]bool{
		"Bearer " + text:         true,
		"bearer " + text:         true,
		"Bearer  " + text:        false,
		"Bearer " + text + " ":   false,
		"Bearer " + text[1:]:     false,
		"Bearer " + other.Text(): false,
		"Basic " + text:          false,
		text:                     false,
		"":                       false,
	} {
		if token.Allows(header) != want {
			t.Errorf("header %q", header)
		}
	}
	if token.Allows() || token.Allows("Bearer "+text, "Bearer "+text) {
		t.Error("no header, or two, are allowed")
	}
	if (access.Token{}).Allows("Bearer ") || (access.Token{}).Allows("") {
		t.Error("no token allows")
	}
}

func TestSpoiledTokenIsRefused(t *testing.T) {
	dir := secrets(t)
	token, err := readToken(dir, ourUID())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "\n", token.Text()[:30], token.Text() + "A", "hunter2\n", token.Text() + "\n\n"} {
		if err := os.WriteFile(filepath.Join(dir, access.TokenFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readToken(dir, ourUID()); task.CodeOf(err) != task.CodeInvalid {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestHostsOnce: a certificate names each host once, however often it was given.
func TestHostsOnce(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "access")
	if err := access.MakeCertificate(dir, ourUID(), []string{"localhost", "a", "A", "10.0.0.1", "::ffff:10.0.0.1", "127.0.0.1"}, time.Now(), false); err != nil {
		t.Fatal(err)
	}
	cert, err := access.ServerCertificate(filepath.Join(dir, access.CertFile), filepath.Join(dir, access.KeyFile), ourUID(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(cert.Hosts(), " "); got != "localhost a 10.0.0.1 127.0.0.1 ::1" {
		t.Errorf("it is for %s", got)
	}
}
