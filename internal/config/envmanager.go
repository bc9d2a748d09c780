package config

import (
	"cmp"
	"time"
)

// EnvManager is how env-manager, which keeps the supporting services, works.
type EnvManager struct {
	GRPCAddr string // where it serves; "" = it does not
	HTTPAddr string // metrics and health; "" = it does not
	// MaxStarts is how many services are started at a time; 0 = no limit.
	MaxStarts int
	// HealthTimeout is how long a service may take until it answers, and HealthAttempts
	// how often it is asked in that time.
	HealthTimeout  time.Duration
	HealthAttempts int
	Verbose        bool
	Network        string // of the containers
	ComposeProject string // whose containers are adopted; "" = any
	ComposeFiles   []string
	// File is the file of ENV_MANAGER_CONFIG; "" = there is none.
	File string
	// DockerHost is where it calls the container engine; "" = as everybody.
	DockerHost string
}

// EnvManagerDockerHost is where env-manager calls the container engine; "" = Docker's own
// default.
func (c Config) EnvManagerDockerHost() string { return cmp.Or(c.EnvManager.DockerHost, c.DockerHost) }

const tableEnvManager = "env_manager"

// Keys and variables of env-manager that other code of this package has to know.
const (
	keyEnvManagerAddr   = "env_manager_addr"
	keyEnvManagerGRPC   = tableEnvManager + ".grpc_addr"
	keyEnvManagerHTTP   = tableEnvManager + ".http_addr"
	keyEnvManagerStarts = tableEnvManager + ".max_concurrent_starts"
	keyHealthTimeout    = tableEnvManager + ".health_timeout"
	keyHealthAttempts   = tableEnvManager + ".health_attempts"
	keyVerbose          = tableEnvManager + ".verbose"
	keyEnvManagerFile   = tableEnvManager + ".config"
	keyEnvManagerDocker = tableEnvManager + ".docker_host"

	envEnvManagerGRPC = "ENV_MANAGER_GRPC_ADDR"
	envEnvManagerFile = "ENV_MANAGER_CONFIG"
)

// envManagerFields are the keys of [env_manager].
var envManagerFields = []field[Config]{
	at(keyEnvManagerGRPC, address(), func(c *Config) *string { return &c.EnvManager.GRPCAddr }, Setting{
		Meaning: "where env-manager serves gRPC; \"none\" = not at all", Env: []string{envEnvManagerGRPC}, Example: `"127.0.0.1:50051"`,
	}),
	at(keyEnvManagerHTTP, address(), func(c *Config) *string { return &c.EnvManager.HTTPAddr }, Setting{
		Meaning: "where it serves /health and /metrics; \"none\" = not at all", Env: []string{"ENV_MANAGER_METRICS_ADDR"}, Example: `"127.0.0.1:50111"`,
	}),
	at(keyEnvManagerStarts, integer(0, 1000), func(c *Config) *int { return &c.EnvManager.MaxStarts }, Setting{
		Meaning: "how many services are started at a time", Zero: "no limit", Env: []string{"ENV_MANAGER_MAX_CONCURRENT"}, Example: `2`,
	}),
	at(keyHealthTimeout, timeout(time.Second, oneDay), func(c *Config) *time.Duration { return &c.EnvManager.HealthTimeout }, Setting{
		Meaning: "how long a service may take until it answers, unless its own start_timeout says otherwise; kafka and ollama have two minutes at least. In the variable a number alone is seconds",
		Env:     []string{"ENV_MANAGER_HEALTH_TIMEOUT"}, Example: `"2m"`,
	}),
	at(keyHealthAttempts, integer(1, 10_000), func(c *Config) *int { return &c.EnvManager.HealthAttempts }, Setting{
		Meaning: "how many times a service that does not answer is asked within health_timeout, at even distances of 200 milliseconds to 5 seconds", Example: `60`,
	}),
	at(keyVerbose, boolean(), func(c *Config) *bool { return &c.EnvManager.Verbose }, Setting{
		Meaning: "whether its log says what is only of use for finding mistakes", Env: []string{"ENV_MANAGER_VERBOSE"}, Example: `true`,
	}),
	at(tableEnvManager+".network", textual("the name of a network", networkName), func(c *Config) *string { return &c.EnvManager.Network }, Setting{
		Meaning: "the network of the services' containers, in which they reach each other by name; it is made where it is missing", Example: `"services"`,
	}),
	at(keyEnvManagerDocker, textual("a text", anyText), func(c *Config) *string { return &c.EnvManager.DockerHost }, Setting{
		Meaning: "where it calls the container engine: unix:///PATH or tcp://HOST:PORT", Zero: "docker_host above the first table",
		Env: []string{envDockerHost}, Example: `"unix:///run/user/1000/docker.sock"`,
	}),
	at(tableEnvManager+".compose_project", textual("the name of a docker compose project", projectOrNone), func(c *Config) *string { return &c.EnvManager.ComposeProject }, Setting{
		Meaning: "the docker compose project whose containers are taken under care where they are a service's", Zero: "any", Example: `"lab"`,
	}),
	at(tableEnvManager+".compose_files", paths(), func(c *Config) *[]string { return &c.EnvManager.ComposeFiles }, Setting{
		Meaning: "docker compose files with more services; one that is named like a built-in service takes its place", Zero: "none", Example: `["/srv/lab/compose.yaml"]`,
	}),
	at(keyEnvManagerFile, path(), func(c *Config) *string { return &c.EnvManager.File }, Setting{
		Meaning: "a file with the keys that env-manager has always had, [[service_overrides]] and others; it wins over this file, and has to be there", Zero: "none",
		Env: []string{envEnvManagerFile}, Example: `"/srv/lab/env-manager.toml"`,
	}),
}

// followAddress has clients call env-manager where it listens, unless they are told
// another place.
func (b *builder) followAddress() {
	if from := b.conf.Source(keyEnvManagerGRPC); from.Kind != FromDefault && !b.conf.IsGiven(keyEnvManagerAddr) {
		b.conf.EnvManagerAddr = b.conf.EnvManager.GRPCAddr
		b.conf.sources[keyEnvManagerAddr] = from
	}
}
