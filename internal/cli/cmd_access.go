package cli

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/access"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

const cmdAccess = "access"

// accessActions are the words that may follow access.
var accessActions = []action{
	{"show", "", []string{"json", "secret"}, "what there is, and where; --secret shows the token itself"},
	{"tls", "[HOST...]", []string{"json", "force"}, "make a certificate for the names and addresses by which clients reach this host (default: the name of this host), and for the hosts of grpc_addr and http_addr"},
	{"token", "", []string{"json", "force"}, "make a token"},
}

func (s *session) accessCommand() *cli.Command {
	return s.command(cli.Command{
		Name: cmdAccess, Usage: "let programs of other hosts in, with certificate and token",
		ArgsUsage: "show | tls [HOST...] | token", Category: categoryDaemon,
		Description: actionLines(accessActions) + "\n" +
			"With both, an address beyond loopback can be served (grpc_addr, http_addr), always with TLS and the token.\n" +
			"A daemon reads them when it is started. docs/security.md tells who is kept out of what.",
		Flags: []cli.Flag{
			jsonFlag(),
			boolFlag("force", "replace what is there; clients need the new one then"),
			boolFlag("secret", "let show print the token"),
		},
		Action: func(c *cli.Context) error {
			action, args := c.Args().First(), c.Args().Tail()
			switch {
			case action == "":
				return usagef("access takes one of %s", strings.Join(actionNames(cmdAccess), ", "))
			case !slices.Contains(actionNames(cmdAccess), action):
				return usagef("access has no %q%s", action, orHint(nearest(action, actionNames(cmdAccess)), strings.Join(actionNames(cmdAccess), ", ")))
			case len(args) > 0 && action != "tls":
				return usagef("access %s: %q is too much", action, args[0])
			case c.Bool("force") && action == "show":
				return usagef("--force goes with access tls and access token")
			case c.Bool("secret") && action != "show":
				return usagef("--secret goes with access show")
			}
			cfg, err := s.config(c)
			if err != nil {
				return err
			}
			if cfg.AccessDir() == "" {
				return usagef("there is no folder for the certificate and the token: HOME is not set, and access.dir is not configured")
			}
			switch action {
			case "tls":
				err = s.accessTLS(cfg, args, c.Bool("force"))
			case "token":
				err = s.accessToken(cfg, c.Bool("force"))
			}
			if err != nil {
				return err
			}
			if err := s.accessShow(cfg, c.Bool("json"), c.Bool("secret")); err != nil || action == "show" {
				return err
			}
			s.tellNextAccess(cfg)
			return nil
		},
	})
}

func (s *session) accessTLS(cfg config.Config, hosts []string, force bool) error {
	if len(hosts) == 0 {
		name, err := os.Hostname()
		if err != nil {
			return task.Errorf(task.CodeInternal, "find the name of this host: %w; give it: dspy-agent access tls HOST", err)
		}
		hosts = []string{name}
	}
	for _, h := range hosts {
		if err := access.CheckHost(h); err != nil {
			return usagef("access tls: %s", err)
		}
	}
	// What is served there would be refused by every client otherwise.
	hosts = append(hosts, access.ServedHosts(cfg.GRPCListen, cfg.HTTPListen)...)
	return explainExists(access.MakeCertificate(cfg.AccessDir(), uint32(os.Geteuid()), hosts, s.now(), force))
}

// tellNextAccess says what is still to do until other hosts are let in.
func (s *session) tellNextAccess(cfg config.Config) {
	have := readSecrets(cfg, s.now())
	switch {
	case have.cert == nil:
		s.err.printf("next: %s access tls\n", Program)
	case !have.token:
		s.err.printf("next: %s access token\n", Program)
	default:
		set := ""
		if len(access.ServedHosts(cfg.GRPCListen, cfg.HTTPListen)) == 0 {
			set = "set grpc_addr or http_addr to an address beyond loopback (docs/other-hosts.md), then "
		}
		s.err.printf("next: %s%s stop and %s start; clients need copies of %s and %s\n",
			set, Program, Program, filepath.Join(cfg.AccessDir(), access.CertFile), filepath.Join(cfg.AccessDir(), access.TokenFile))
	}
}

func (s *session) accessToken(cfg config.Config, force bool) error {
	return explainExists(access.MakeToken(cfg.AccessDir(), uint32(os.Geteuid()), force))
}

// explainExists says that a secret is there already, which is a refusal.
func explainExists(err error) error {
	if errors.Is(err, access.ErrExists) {
		return task.Errorf(task.CodeConflict, "%w; clients need the new one then", err)
	}
	return err
}

// credentials are what a client needs for an address beyond loopback.
type credentials struct {
	cert  *access.Certificate // nil: none, or no token
	token access.Token
}

// clientSecrets reads what was taken here from the server, if anything was.
func clientSecrets(cfg config.Config) (credentials, error) {
	dir, uid := cfg.AccessDir(), uint32(os.Geteuid())
	if dir == "" {
		return credentials{}, nil
	}
	cert, certErr := access.ClientCertificate(filepath.Join(dir, access.CertFile), uid, time.Now())
	token, tokenErr := access.ReadToken(filepath.Join(dir, access.TokenFile), uid)
	switch err := errors.Join(certErr, tokenErr); {
	case err == nil:
		return credentials{cert, token}, nil
	case errors.Is(err, fs.ErrNotExist):
		return credentials{}, nil
	default:
		return credentials{}, err
	}
}

// secrets is what there is in the folder: each is usable, not there, or at fault.
type secrets struct {
	cert                  *access.Certificate // nil: none that can be used
	token                 bool                // there is one that can be used
	certFault, tokenFault error
}

func readSecrets(cfg config.Config, now time.Time) secrets {
	dir, uid := cfg.AccessDir(), uint32(os.Geteuid())
	var have secrets
	have.cert, have.certFault = access.ServerCertificate(filepath.Join(dir, access.CertFile), filepath.Join(dir, access.KeyFile), uid, now)
	_, have.tokenFault = access.ReadToken(filepath.Join(dir, access.TokenFile), uid)
	have.token = have.tokenFault == nil
	for _, fault := range []*error{&have.certFault, &have.tokenFault} {
		if errors.Is(*fault, fs.ErrNotExist) {
			*fault = nil
		}
	}
	return have
}

// warnings says what is wrong with the secrets.
func (have secrets) warnings(now time.Time, cfg config.Config) []string {
	var out []string
	for _, fault := range []error{have.certFault, have.tokenFault} {
		if fault != nil {
			out = append(out, fault.Error())
		}
	}
	if have.cert != nil {
		for _, w := range []string{have.cert.Warning(now), have.cert.Mismatch(cfg.GRPCListen, cfg.HTTPListen)} {
			if w != "" {
				out = append(out, w)
			}
		}
	}
	return out
}

func (s *session) accessShow(cfg config.Config, asJSON, secret bool) error {
	have := readSecrets(cfg, s.now())
	warnings := have.warnings(s.now(), cfg)
	dir := cfg.AccessDir()
	j := jsonAccess{Dir: dir, GRPC: cfg.GRPCListen, HTTP: cfg.HTTPListen, Warning: strings.Join(warnings, "; ")}
	if o := liveOwner(cfg.QueueDir); o != nil {
		j.GRPC, j.HTTP = o.GRPC, o.HTTP
	}
	if have.cert != nil {
		j.Certificate, j.Hosts = filepath.Join(dir, access.CertFile), have.cert.Hosts()
	}
	if have.token {
		j.TokenFile = filepath.Join(dir, access.TokenFile)
		if secret {
			text, err := os.ReadFile(j.TokenFile)
			if err != nil {
				return err
			}
			j.Token = strings.TrimSpace(string(text))
		}
	}
	if asJSON {
		return writeJSON(s.out, j)
	}
	s.out.printf("folder       %s\n", j.Dir)
	s.out.printf("certificate  %s\n", secretText(j.Certificate, have.certFault, "dspy-agent access tls"))
	if len(j.Hosts) > 0 {
		s.out.printf("for          %s\n", strings.Join(j.Hosts, ", "))
	}
	s.out.printf("token        %s\n", secretText(j.TokenFile, have.tokenFault, "dspy-agent access token"))
	if j.Token != "" {
		s.out.printf("secret       %s\n", j.Token)
	}
	s.out.printf("gRPC         %s\nHTTP         %s\n", doorText(j.GRPC), doorText(j.HTTP))
	for _, w := range warnings {
		s.err.printf("warning: %s\n", w)
	}
	return nil
}

// secretText says where a secret is, or how to get one.
func secretText(path string, fault error, maker string) string {
	switch {
	case fault != nil:
		return "cannot be used, see below; make another with: " + maker + " --force"
	case path == "":
		return "none; make one with: " + maker
	}
	return path
}

// doorText says where a door is, and how one comes in.
func doorText(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	switch {
	case addr == "":
		return "off"
	case err == nil && (host == "localhost" || net.ParseIP(host).IsLoopback()):
		return addr + " (programs of yours on this host, without TLS)"
	default:
		return addr + " (programs of yours anywhere, with TLS and the token)"
	}
}
