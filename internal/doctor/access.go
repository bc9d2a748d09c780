package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/dspy-agent/dspy-agent/internal/access"
	"github.com/dspy-agent/dspy-agent/internal/config"
)

// checkAccess reads the certificate, its key and the token as the daemon does. One
// that is there and cannot be used keeps what is beyond loopback shut.
func checkAccess(_ context.Context, x *examination, cfg config.Config) []Finding {
	dir, uid := cfg.AccessDir(), uint32(x.UID)
	if dir == "" {
		return bad(Note, "there is no folder for a certificate and a token: HOME is not set", "set access.dir, if programs of other hosts are to call")
	}
	certFile := filepath.Join(dir, access.CertFile)
	cert, certErr := access.ServerCertificate(certFile, filepath.Join(dir, access.KeyFile), uid, x.Now())
	_, tokenErr := access.ReadToken(filepath.Join(dir, access.TokenFile), uid)
	isClient := false
	if errors.Is(certErr, fs.ErrNotExist) {
		if c, err := access.ClientCertificate(certFile, uid, x.Now()); !errors.Is(err, fs.ErrNotExist) {
			cert, certErr, isClient = c, err, true
		}
	}
	var out []Finding
	for _, err := range []error{certErr, tokenErr} {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			out = append(out, bad(Problem, err.Error(), "mend it, and start the daemon again: beyond loopback nothing is served, and nobody called, until then")...)
		}
	}
	if out != nil {
		return out
	}
	switch {
	case certErr != nil && tokenErr != nil:
		return good("no certificate and no token: nothing listens beyond this host, where programs need neither")
	case certErr != nil:
		return bad(Warning, "there is a token and no certificate in "+dir+", so nothing listens beyond this host", "dspy-agent access tls, or remove the token")
	}
	for _, warning := range []string{cert.Warning(x.Now()), mismatch(cert, isClient, cfg)} {
		if warning != "" {
			out = append(out, bad(Warning, warning, "")...) // it says what to do
		}
	}
	switch {
	case tokenErr != nil:
		return append(out, bad(Warning, "there is a certificate and no token in "+dir+", so nothing listens beyond this host", "dspy-agent access token, or remove the certificate")...)
	case out != nil:
		return out
	case isClient:
		return good("%s has the certificate of another host, and a token: for calling there", dir)
	}
	return good("%s", fmt.Sprintf("certificate and token in %s are ours alone", dir))
}

// mismatch says that no client will take the certificate of this host for that of the
// addresses that it serves. Without the key it is that of another host.
func mismatch(cert *access.Certificate, isClient bool, cfg config.Config) string {
	if isClient {
		return ""
	}
	return cert.Mismatch(cfg.GRPCListen, cfg.HTTPListen)
}
