package doors

import (
	"errors"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/access"
)

// secrets are the certificate and the token; both are there, or cert is nil.
type secrets struct {
	cert  *access.Certificate
	token access.Token
	half  string // what is missing where only one of them is there
	lacks access.Lacks
}

// readSecrets reads them. The error is about one that is there and cannot be used.
func readSecrets(dir string, uid uint32, now time.Time) (secrets, error) {
	if dir == "" {
		return secrets{lacks: access.Lacks{Certificate: true, Token: true}}, nil
	}
	cert, certErr := access.ServerCertificate(filepath.Join(dir, access.CertFile), filepath.Join(dir, access.KeyFile), uid, now)
	token, tokenErr := access.ReadToken(filepath.Join(dir, access.TokenFile), uid)
	for _, err := range []error{certErr, tokenErr} {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return secrets{}, err
		}
	}
	switch {
	case certErr == nil && tokenErr == nil:
		return secrets{cert: cert, token: token}, nil
	case certErr == nil:
		return secrets{half: "there is a certificate and no token; make one with: dspy-agent access token", lacks: access.Lacks{Token: true}}, nil
	case tokenErr == nil:
		return secrets{half: "there is a token and no certificate; make one with: dspy-agent access tls", lacks: access.Lacks{Certificate: true}}, nil
	}
	return secrets{lacks: access.Lacks{Certificate: true, Token: true}}, nil
}
