package config

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Service is what a site says about a supporting service. Of one that is built in,
// only what was given counts, which Config.IsGiven tells; another is declared whole. Its
// slices are not to be changed.
type Service struct {
	Name string
	// Enabled services are there; nothing is known of others.
	Enabled bool
	// Required services have to answer before a start has succeeded.
	Required bool
	// Adopt: a container of this name is taken under care, whoever has made it.
	Adopt bool
	Image string
	// Command and Entrypoint take the place of the image's; empty = the image's.
	Command, Entrypoint []string
	Env                 []string // "K=V", sorted by K
	Ports               []ServicePort
	Volumes             []ServiceVolume
	Needs               []string // services that have to answer first
	User                string   // "UID:GID"; "" = the image's
	HostNetwork         bool
	// HealthCheckURL is how it is asked whether it is ready; it is not looked into here.
	// "" = as built in.
	HealthCheckURL string
	StartTimeout   time.Duration // until it answers; 0 = EnvManager.HealthTimeout
	StopTimeout    time.Duration // until it is killed; 0 = as built in
	MemBytes       int64         // 0 = no limit
	CPUMilli       int64         // 0 = no limit
}

// serviceName is what engines take as a container's name, and DNS as a host's.
var serviceName = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,62}$`)

const serviceNameRule = "the name of a service has small letters, digits, _ . and - only, at most 63, and begins with a letter or digit"

func isServiceName(s string) bool { return serviceName.MatchString(s) }

// newService is a service before its keys are read.
func newService(name string) Service { return Service{Name: name, Enabled: true} }

// serviceFields are the keys of [services.NAME]; its variables are read beside them.
var serviceFields = []field[Service]{
	at("enabled", boolean(), func(s *Service) *bool { return &s.Enabled }, Setting{
		Meaning: "whether the service is there at all", Example: `false`,
	}),
	at("required", boolean(), func(s *Service) *bool { return &s.Required }, Setting{
		Meaning: "a start has succeeded only when the service answers", Example: `true`,
	}),
	at("adopt", boolean(), func(s *Service) *bool { return &s.Adopt }, Setting{
		Meaning: "a container of this name that somebody else has made is taken under care: started, stopped and watched, never made anew and never removed", Example: `true`,
	}),
	at("image", textual("the name of an image", imageName), func(s *Service) *string { return &s.Image }, Setting{
		Meaning: "the container image", Zero: "none; a new service needs one", Example: `"redis:7.4-alpine"`,
	}),
	at("command", words(), func(s *Service) *[]string { return &s.Command }, Setting{
		Meaning: "what runs in the container: a list of words, or one text that is taken apart at its spaces, as a shell would, and no shell runs", Zero: "the image's own", Example: `["redis-server", "--appendonly", "yes"]`,
	}),
	at("entrypoint", words(), func(s *Service) *[]string { return &s.Entrypoint }, Setting{
		Meaning: "what stands before the command, in the same forms", Zero: "the image's own", Example: `["/usr/local/bin/start"]`,
	}),
	at("ports", ports(), func(s *Service) *[]ServicePort { return &s.Ports }, Setting{
		Meaning: "ports that are published on this host, at 127.0.0.1 where no address is given; port 0 of the host is any that is free", Zero: "none", Example: `["6390:6379"]`,
	}),
	at("volumes", volumes(), func(s *Service) *[]ServiceVolume { return &s.Volumes }, Setting{
		Meaning: "volumes of the engine, by name, or paths of this host, and where in the container they are; the file that is made for prometheus stays, unless something else is in its place",
		Zero:    "none", Example: `["redis_data:/data", "/etc/redis:/etc/redis:ro"]`,
	}),
	at("depends_on", serviceNames(), func(s *Service) *[]string { return &s.Needs }, Setting{
		Meaning: "services that have to answer before this one is started", Zero: "none", Example: `["zookeeper"]`,
	}),
	at("user", textual(`a user such as "1000:1000"`, isUser), func(s *Service) *string { return &s.User }, Setting{
		Meaning: "the user in the container", Zero: "the image's", Example: `"1000:1000"`,
	}),
	at("host_network", boolean(), func(s *Service) *bool { return &s.HostNetwork }, Setting{
		Meaning: "the service uses the host's network, and publishes no ports", Example: `true`,
	}),
	at(keyHealthURL, textual("a text", anyText), func(s *Service) *string { return &s.HealthCheckURL }, Setting{
		Meaning: `how it is asked whether it answers: http, tcp, redis, zookeeper or kafka, as in "http://:8080/health" for a port in the container, "http://127.0.0.1:8082/health" for one of this host; "health" is the image's own check, "none" is no question`,
		Zero:    "as built in; a new service accepts a connection on its first port, or has none and is not asked", Example: `"tcp://:9000"`,
	}),
	at(keyStartTimeout, duration(oneDay), func(s *Service) *time.Duration { return &s.StartTimeout }, Setting{
		Meaning: "how long it may take from its start until it answers", Zero: "env_manager.health_timeout", Example: `"3m"`,
	}),
	at("stop_timeout", duration(oneDay), func(s *Service) *time.Duration { return &s.StopTimeout }, Setting{
		Meaning: "how long it may take to end before it is killed", Zero: "10 seconds", Example: `"30s"`,
	}),
	at("memory", size(0, maxBytes), func(s *Service) *int64 { return &s.MemBytes }, Setting{
		Meaning: "how much memory it may use", Zero: "no limit", Example: `"2GiB"`,
	}),
	at("cpus", cpus(0), func(s *Service) *int64 { return &s.CPUMilli }, Setting{
		Meaning: "how many CPUs it may use", Zero: "no limit", Example: `1.5`,
	}),
}

// Keys of a service that other code of this package has to know.
const (
	keyEnvironment  = "environment"
	keyHealthURL    = "health_check_url"
	keyStartTimeout = "start_timeout"
)

// The two forms in which variables of a service are given.
var (
	environmentSetting = Setting{
		Key: keyEnvironment, Type: "list of texts", Meaning: "variables of its environment, beside the built-in ones; one of the same name takes their place",
		Zero: "none", Example: `["ALLOW_EMPTY_PASSWORD=yes"]`,
	}
	serviceEnvSetting = Setting{
		Key: keyEnv, Type: "table of texts", Meaning: "the same as a table", Zero: "none", Example: `{ TZ = "UTC" }`,
	}
)

// serviceSettings describes all keys of [services.NAME], by their last names.
func serviceSettings() []Setting {
	var out []Setting
	s := newService("NAME")
	for _, f := range serviceFields {
		f.Default = f.literal(&s)
		out = append(out, f.Setting)
	}
	for _, more := range []Setting{environmentSetting, serviceEnvSetting} {
		more.Default = map[string]string{keyEnvironment: "[]", keyEnv: "{}"}[more.Key]
		out = append(out, more)
	}
	return out
}

// serviceKeys are the last names of those keys.
func serviceKeys() []string {
	var out []string
	for _, s := range serviceSettings() {
		out = append(out, s.Key)
	}
	return out
}

// ServiceKey is the key of a service as the file has it, such as
// "services.redis.image"; that of the service itself with "".
func ServiceKey(name, key string) string {
	if key == "" {
		return keyText([]string{tableServices, name})
	}
	return keyText([]string{tableServices, name, key})
}

func variableKey(service, variable string) string {
	return keyText([]string{tableServices, service, keyEnv, variable})
}

// IsGiven says whether a key was given a value, rather than that its default holds.
func (c Config) IsGiven(key string) bool { return c.sources[key].Kind != FromDefault }

// ServiceNames lists the services that something is said about, by name.
func (c Config) ServiceNames() []string { return slices.Sorted(maps.Keys(c.Services)) }

// service returns whether a name is good for a service, and makes it if it is not there.
func (b *builder) service(name string, from Source) bool {
	if _, ok := b.conf.Services[name]; ok {
		return true
	}
	if !isServiceName(name) {
		b.badName(from, tableServices+"."+quote(name), "service %s: %s", quote(name), serviceNameRule)
		return false
	}
	b.conf.Services[name] = newService(name)
	b.conf.sources[ServiceKey(name, "")] = from
	return true
}

// serviceKey takes in a key below [services.NAME].
func (b *builder) serviceKey(l leaf, from Source) {
	name, rest := l.path[1], l.path[2:]
	switch {
	case !slices.Contains(serviceKeys(), rest[0]):
		b.unknownKey(l.place, from)
	case b.service(name, from):
		b.serviceValue(name, rest, keyText(l.path), l.val, from)
	}
}

// serviceValue takes in one value for a service; rest is the path below the service, and
// called what the file calls it.
func (b *builder) serviceValue(name string, rest []string, called string, v value, from Source) {
	s := b.conf.Services[name]
	switch i := slices.IndexFunc(serviceFields, func(f field[Service]) bool { return f.Key == rest[0] }); {
	case i >= 0:
		assign(b, serviceFields[i], &s, ServiceKey(name, rest[0]), called, v, from)
	case rest[0] == keyEnvironment:
		b.environmentList(&s, called, v, from)
	case len(rest) == 1:
		b.problem(from, called, "%s is %s; it is a table: write [%s] and NAME = \"VALUE\" below, or %s = [\"NAME=VALUE\"]", called, v.shown(), called, keyEnvironment)
	case !isVariable(rest[1]):
		b.problem(from, called, "%s: %s is no name of a variable", called, quote(rest[1]))
	case v.kind != kindText || !anyText(v.text):
		b.problem(from, called, "%s is %s; write a text, in quotes, since a variable has no other type", called, v.shown())
	default:
		b.variableOf(&s, rest[1], v.text, called, from)
	}
	b.conf.Services[name] = s
}

func isVariable(name string) bool { return name != "" && !strings.ContainsAny(name, "=\x00") }

// environmentList takes in a list of "K=V".
func (b *builder) environmentList(s *Service, called string, v value, from Source) {
	bad := func(shown string) {
		b.problem(from, called, "%s is %s; write a list of texts such as [\"NAME=VALUE\"]", called, shown)
	}
	if v.kind != kindList {
		bad(v.shown())
		return
	}
	for _, item := range v.list {
		name, text, ok := strings.Cut(item.text, "=")
		if !ok || item.kind != kindText || !isVariable(name) || !anyText(text) {
			bad("[" + item.shown() + "]")
			return
		}
		b.variableOf(s, name, text, called, from)
	}
}

// variableOf sets a variable of a service. Another file's is replaced; twice in one file
// is a mistake, whatever the form.
func (b *builder) variableOf(s *Service, name, text, called string, from Source) {
	key := variableKey(s.Name, name)
	if before := b.conf.Source(key); before.Kind == FromFile && before.Name == from.Name {
		b.problem(from, called, "%s: the variable %s of service %s is given twice, in line %d too; keep one of them", called, quote(name), s.Name, before.Line)
		return
	}
	s.Env = slices.DeleteFunc(slices.Clone(s.Env), func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
	s.Env = append(s.Env, name+"="+text)
	sortVariables(s.Env)
	b.conf.sources[key] = from
}
