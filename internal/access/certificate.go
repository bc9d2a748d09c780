package access

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Files that MakeCertificate makes.
const (
	// CertFile has the certificate; clients on other hosts need it, and it is no
	// secret.
	CertFile = "cert.pem"
	// KeyFile has the key, which stays on the server.
	KeyFile = "key.pem"
)

const (
	// certLife is how long a certificate is valid.
	certLife = 2 * 365 * 24 * time.Hour
	// renewBefore is how long before its end a certificate begins to be warned of.
	renewBefore = 30 * 24 * time.Hour
	// clockSkew is how far behind the clock of a client may be.
	clockSkew = time.Hour
)

// certBlock is what a certificate is called in a PEM file.
const certBlock = "CERTIFICATE"

const renewIt = "dspy-agent access tls --force; then take the new " + CertFile + " to the clients"

// MakeCertificate makes a key (ECDSA P-256) and a certificate signed by itself,
// valid for two years for the given host names and addresses, and writes both
// into dir, which is made if need be. What is there is replaced only with force;
// else the error wraps ErrExists. KeyFile is written last and decides: after a
// crash in between the same call makes both again, and reading them fails.
func MakeCertificate(dir string, uid uint32, hosts []string, now time.Time, force bool) error {
	if err := makePrivateDir(dir, uid); err != nil {
		return err
	}
	keyFile := filepath.Join(dir, KeyFile)
	if _, err := os.Lstat(keyFile); !force && !errors.Is(err, fs.ErrNotExist) {
		return task.Errorf(task.CodeConflict, "%s %w; replace it with --force", keyFile, ErrExists)
	}
	certPEM, keyPEM, err := newCertificate(hosts, now)
	if err != nil {
		return err
	}
	if err := writePrivate(filepath.Join(dir, CertFile), certPEM, true); err != nil {
		return err
	}
	return writePrivate(keyFile, keyPEM, force)
}

func newCertificate(hosts []string, now time.Time) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "dspy-agent"},
		NotBefore: now.Add(-clockSkew),
		NotAfter:  now.Add(certLife),
		// It may serve, and sign nothing: whoever trusts it trusts this server alone.
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if err := addHosts(template, hosts); err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, fmt.Errorf("make a certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), nil
}

// addHosts names the hosts in a certificate, and always this host's loopback.
func addHosts(c *x509.Certificate, hosts []string) error {
	if len(hosts) == 0 {
		return task.Errorf(task.CodeInvalid, "a certificate needs the name or address under which clients reach this host")
	}
	for _, h := range append(hosts, "localhost", "127.0.0.1", "::1") {
		addr, err := netip.ParseAddr(h)
		ip := net.IP(addr.Unmap().AsSlice())
		switch {
		case slices.ContainsFunc(c.DNSNames, func(had string) bool { return strings.EqualFold(had, h) }):
		case slices.ContainsFunc(c.IPAddresses, func(had net.IP) bool { return err == nil && had.Equal(ip) }):
		case err == nil && !addr.IsUnspecified() && addr.Zone() == "":
			c.IPAddresses = append(c.IPAddresses, ip)
		case err != nil && isHostName(h):
			c.DNSNames = append(c.DNSNames, h)
		default:
			return errNoHost(h)
		}
	}
	return nil
}

func errNoHost(h string) error {
	return task.Errorf(task.CodeInvalid, "%q is neither the name nor the address of a host", h)
}

// A Certificate is what a server shows and a client expects.
type Certificate struct {
	leaf *x509.Certificate
	pair tls.Certificate // with the key on the server's side
}

// ServerCertificate reads a certificate and its key, made by MakeCertificate or by
// somebody else. The error wraps fs.ErrNotExist if one is not there, and
// ErrUnsafeFile if the key is not ours alone.
func ServerCertificate(certFile, keyFile string, uid uint32, now time.Time) (*Certificate, error) {
	cert, err := readPrivate(certFile, uid, public)
	if err != nil {
		return nil, err
	}
	key, err := readPrivate(keyFile, uid, secret)
	if err != nil {
		return nil, err
	}
	c, err := parsePair(cert, key)
	if err != nil {
		return nil, task.Errorf(task.CodeInvalid, "%s and %s do not go together or cannot be read; make both with: %s: %w", certFile, keyFile, renewIt, err)
	}
	return c, c.checkTime(now)
}

func parsePair(cert, key []byte) (*Certificate, error) {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	return &Certificate{leaf: pair.Leaf, pair: pair}, nil
}

// ClientCertificate reads the certificate that the server will show. Errors are
// those of ServerCertificate.
func ClientCertificate(certFile string, uid uint32, now time.Time) (*Certificate, error) {
	data, err := readPrivate(certFile, uid, public)
	if err != nil {
		return nil, err
	}
	c, err := parseCertificate(data)
	if err != nil {
		return nil, task.Errorf(task.CodeInvalid, "%s cannot be read; copy it again from the server: %w", certFile, err)
	}
	return c, c.checkTime(now)
}

var errNoCertificate = errors.New("there is no certificate in it")

// parseCertificate reads the first certificate, which of a file with more in it is
// the one that a server shows.
func parseCertificate(data []byte) (*Certificate, error) {
	block, rest := pem.Decode(data)
	for block != nil && block.Type != certBlock {
		block, rest = pem.Decode(rest)
	}
	if block == nil {
		return nil, errNoCertificate
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	return &Certificate{leaf: leaf}, nil
}

// PEM is the certificate as it is in a file, without its key.
func (c *Certificate) PEM() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: c.leaf.Raw}))
}

// ParsePEM reads what PEM has written.
func ParsePEM(text string, now time.Time) (*Certificate, error) {
	c, err := parseCertificate([]byte(text))
	if err != nil {
		return nil, err
	}
	return c, c.checkTime(now)
}

func (c *Certificate) checkTime(now time.Time) error {
	if now.After(c.leaf.NotAfter) {
		return task.Errorf(task.CodeInvalid, "the certificate ended on %s; make another with: %s", c.leaf.NotAfter.Format(time.DateOnly), renewIt)
	}
	return nil
}

// Warning says when the certificate ends, if that is within 30 days; else "".
func (c *Certificate) Warning(now time.Time) string {
	if now.Before(c.leaf.NotAfter.Add(-renewBefore)) {
		return ""
	}
	return fmt.Sprintf("the certificate ends on %s; make another with: %s", c.leaf.NotAfter.Format(time.DateOnly), renewIt)
}

// Hosts returns the names and addresses for which it is valid: those that a
// Browser guard of the same server has to allow.
func (c *Certificate) Hosts() []string {
	hosts := append([]string(nil), c.leaf.DNSNames...)
	for _, ip := range c.leaf.IPAddresses {
		hosts = append(hosts, ip.String())
	}
	return hosts
}

// Mismatch says of which of those addresses to listen at the certificate is not for the
// host, so that every client there refuses it; "" where it is for all that name one.
func (c *Certificate) Mismatch(addrs ...string) string {
	var without []string
	for _, host := range ServedHosts(addrs...) {
		if c.leaf.VerifyHostname(host) != nil {
			without = append(without, host)
		}
	}
	if without == nil {
		return ""
	}
	// The next one is to be for those that call this one by its names, too.
	named := slices.DeleteFunc(c.Hosts(), func(h string) bool {
		return CheckHost(h) != nil || ServedHosts(net.JoinHostPort(h, "0")) == nil
	})
	return fmt.Sprintf("the certificate is not for %s, where the daemon listens, so that clients refuse it; make another with: dspy-agent access tls --force %s; then take the new %s to the clients",
		strings.Join(without, " and "), strings.Join(append(named, without...), " "), CertFile)
}

// ServerTLS returns what a server needs: TLS 1.3, or 1.2 for those who cannot.
func (c *Certificate) ServerTLS() *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{c.pair},
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"h2", "http/1.1"},
	}
}

// ClientTLS returns what a client needs that talks to this server and no other:
// beside what is usual (name, time), the server has to show this very
// certificate.
func (c *Certificate) ClientTLS() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(c.leaf)
	return &tls.Config{
		RootCAs:    pool,
		MinVersion: tls.VersionTLS13,
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 || !c.leaf.Equal(s.PeerCertificates[0]) {
				return task.Errorf(task.CodeConflict, "the server shows another certificate than the one we have of it; copy %s again if it was renewed there", CertFile)
			}
			return nil
		},
	}
}
