package docker

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/docker/docker/api/types/registry"
)

// credentials are those that the user has for registries, where docker login keeps
// them: in config.json, or in the care of a helper that it names. They are read
// anew for each pull, so that a login counts at once.
type credentials struct {
	dir  string
	path string // where helpers are looked for
}

// hub is the name under which Docker's own registry stands in config.json.
const hub = "https://index.docker.io/v1/"

// helperPatience is how long a helper may take: some ask a service.
const helperPatience = 30 * time.Second

// userConfig is what is read of config.json.
type userConfig struct {
	Auths map[string]struct {
		Auth          string `json:"auth"`
		Username      string `json:"username"`
		Password      string `json:"password"`
		IdentityToken string `json:"identitytoken"`
		RegistryToken string `json:"registrytoken"`
	} `json:"auths"`
	CredsStore  string            `json:"credsStore"`
	CredHelpers map[string]string `json:"credHelpers"`
}

// header returns what to send to the engine for a registry; "" = nothing.
func (c credentials) header(ctx context.Context, domain string) (string, error) {
	auth, err := c.find(ctx, domain)
	if err != nil || auth == (registry.AuthConfig{}) {
		return "", err
	}
	return registry.EncodeAuthConfig(auth)
}

func (c credentials) find(ctx context.Context, domain string) (registry.AuthConfig, error) {
	var none registry.AuthConfig
	if c.dir == "" {
		return none, nil
	}
	path := filepath.Join(c.dir, "config.json")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return none, nil
	}
	if err != nil {
		return none, err
	}
	var conf userConfig
	if err := json.Unmarshal(b, &conf); err != nil {
		return none, fmt.Errorf("%s: %w", path, err)
	}
	key := domain
	if domain == "docker.io" {
		key = hub
	}
	if helper := conf.CredHelpers[key]; helper != "" {
		return c.ask(ctx, helper, key)
	}
	if conf.CredsStore != "" {
		return c.ask(ctx, conf.CredsStore, key)
	}
	for name, a := range conf.Auths {
		if name != key && hostOf(name) != hostOf(key) {
			continue
		}
		out := registry.AuthConfig{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken, ServerAddress: key}
		if a.Auth != "" {
			plain, err := base64.StdEncoding.DecodeString(a.Auth)
			if err != nil {
				return none, fmt.Errorf("%s: the entry of %s is damaged; log in again: docker login %s", path, name, domain)
			}
			out.Username, out.Password, _ = strings.Cut(string(plain), ":")
			out.Password = strings.Trim(out.Password, "\x00")
		}
		return out, nil
	}
	return none, nil
}

// hostOf is the host in the name of a registry, which may be written as an address.
func hostOf(name string) string {
	name = strings.TrimPrefix(strings.TrimPrefix(name, "https://"), "http://")
	host, _, _ := strings.Cut(name, "/")
	return host
}

var helperName = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

// ask asks a helper. Helpers say in words that they have nothing; so whatever goes
// wrong with one that runs means that the registry is tried without credentials.
func (c credentials) ask(ctx context.Context, helper, key string) (registry.AuthConfig, error) {
	var none registry.AuthConfig
	program, err := c.lookup(helper)
	if err != nil {
		return none, err
	}
	ctx, cancel := context.WithTimeout(ctx, helperPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "get")
	cmd.Stdin = strings.NewReader(key)
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return none, fmt.Errorf("%s does not answer", program)
		}
		return none, nil
	}
	var got struct{ Username, Secret string }
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		return none, fmt.Errorf("%s gives no credentials that can be read: %w", program, err)
	}
	if got.Username == "<token>" {
		return registry.AuthConfig{IdentityToken: got.Secret, ServerAddress: key}, nil
	}
	return registry.AuthConfig{Username: got.Username, Password: got.Secret, ServerAddress: key}, nil
}

// lookup finds the program of a helper.
func (c credentials) lookup(helper string) (string, error) {
	name := "docker-credential-" + helper
	if helperName.MatchString(helper) {
		for _, dir := range filepath.SplitList(c.path) {
			path := filepath.Join(dir, name)
			if info, err := os.Stat(path); filepath.IsAbs(dir) && err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("the program %s, which %s names, is not in PATH", name, filepath.Join(c.dir, "config.json"))
}
