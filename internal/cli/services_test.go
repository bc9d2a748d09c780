package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	pb "github.com/dspy-agent/dspy-agent/proto/env_manager/v1"
)

func TestServicesWithoutEnvManager(t *testing.T) {
	env := testEnv(t)
	for _, args := range []string{"", "status", "status redis", "down", "restart redis", "logs redis", "pull", "why redis"} {
		expect(t, env, exitNoDaemon, "", "no env-manager is running; start it and the services with: dspy-agent services up", strings.Fields("services "+args)...)
	}
	expect(t, env, exitDone, "no env-manager is running", "", "services", "quit")
	// A typing mistake starts none.
	expect(t, env, exitNotFound, "", `there is no such service: "redsi"; there are `, "services", "up", "redsi")
}

func TestServicesUsage(t *testing.T) {
	env := testEnv(t)
	for args, want := range map[string]string{
		"services redis":           `services has no "redis"; there are status, up, down, restart, logs, pull, why, quit`,
		"services restrat redis":   "did you mean restart?",
		"services restart":         "takes the names of services",
		"services logs":            "takes the names of services",
		"services why":             "takes the name of one service",
		"services why a b":         "takes the name of one service",
		"services quit now":        `"now" is too much`,
		"services up --json":       "--json does not go with services up",
		"services status --follow": "--follow does not go with services status",
		"services up --timeout x":  "--timeout",
		"services pull --tail 3":   "--tail does not go with services pull",
		"services logs x -n -1":    "--tail",
		"services logs x --since":  "there is no flag --since of services",
		"services --tail x logs y": "not a whole number",
	} {
		expect(t, env, exitUsage, "", want, strings.Fields(args)...)
	}
	expect(t, env, exitUsage, "", "an empty name", "services", "down", "")
}

func TestServicesStatus(t *testing.T) {
	f, env := startFakeEnvManager(t)
	redis := f.has("redis", "running", "ready", "")
	redis.Ports, redis.StartedAt, redis.ContainerId = []int32{6379, 6380}, 1_700_000_000, "abc"
	redis.ResourceUsage = &pb.ResourceUsage{CpuPercent: 12.34, MemoryBytes: 1 << 20, NetworkRxBytes: 7}
	redis.HealthChecks["ends"], redis.HealthChecks["adopted"] = "2", "docker compose"
	f.has("kafka", "unhealthy", "blocked", "port 9092\x1b[2J is somebody else's")
	f.has("search", "starting", "backing_off", "with exit code 1")
	f.has("vault", "stopped", "stopped", "")

	want := "SERVICE\tSTATUS\tSTARTED\tPORTS\tCPU\tMEM\tDETAIL\n" +
		"kafka\tunhealthy\t\t\t\t\tblocked: port 9092?[2J is somebody else's\n" +
		"redis\trunning\t2023-11-14T22:13:20.000Z\t6379,6380\t12.3\t1048576\tended 2 times of late; adopted from docker compose\n" +
		"search\tstarting\t\t\t\t\tbacking off: with exit code 1\n" +
		"vault\tstopped\t\t\t\t\t\n"
	if out := expect(t, env, exitDone, "SERVICE", "", "services"); out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	if out := expect(t, env, exitDone, "redis", "", "services", "status", "redis"); strings.Contains(out, "kafka") {
		t.Errorf("kafka was not asked for: %q", out)
	}
	expect(t, env, exitNotFound, "", "there are redis, kafka", "services", "status", "redsi")

	var all []map[string]any
	if err := json.Unmarshal([]byte(expect(t, env, exitDone, "[", "", "services", "--json", "status", "redis")), &all); err != nil || len(all) != 1 {
		t.Fatalf("%v: %v", all, err)
	}
	wantJSON := map[string]any{
		"name": "redis", "status": "running", "phase": "ready", "ends": 2.0, "adopted": "docker compose", "container_id": "abc", "ports": []any{6379.0, 6380.0},
		"started_at": "2023-11-14T22:13:20.000Z", "cpu_percent": 12.34, "memory_bytes": 1048576.0, "network_rx_bytes": 7.0, "network_tx_bytes": 0.0,
	}
	if !reflect.DeepEqual(all[0], wantJSON) {
		t.Errorf("got %v\nwant %v", all[0], wantJSON)
	}
	_, screen := newTerminal(t, 120, 24).run(t, env, "services")
	for _, want := range []string{"\x1b[32mrunning\x1b[0m", "1.0 MiB", "12%", "years ago"} {
		if !strings.Contains(screen, want) {
			t.Errorf("no %q in %q", want, screen)
		}
	}
}

func TestServicesUp(t *testing.T) {
	f, env := startFakeEnvManager(t)
	f.updates = []*pb.ServiceStatusUpdate{
		{ServiceName: "redis", Status: "starting", Message: "pulling redis:7"},
		{ServiceName: "kafka", Status: "starting", Message: "redis, which it needs, is starting"},
		{ServiceName: "redis", Status: "healthy", Message: "ready 1s after its start", Progress: 100},
		{ServiceName: "kafka", Status: "healthy", Message: "ready 2s after its start", Progress: 100},
	}
	out := expect(t, env, exitDone, "redis", "", "services", "up", "kafka")
	if want := "redis\thealthy\tready 1s after its start\nkafka\thealthy\tready 2s after its start\n"; out != want || f.calls("start kafka") != 1 {
		t.Errorf("got %q, want %q; asked %q", out, want, f.asked)
	}
	_, screen := newTerminal(t, 100, 24).run(t, env, "services", "up", "kafka")
	for _, want := range []string{"redis  \x1b[36mstarting     \x1b[0mpulling redis:7", "\x1b[2A\rredis  \x1b[32mhealthy"} {
		if !strings.Contains(screen, want) {
			t.Errorf("no %q in %q", want, screen)
		}
	}
	f.updates = append(f.updates, &pb.ServiceStatusUpdate{ServiceName: "kafka", Status: "failed", Message: "it ended 5 times"})
	expect(t, env, exitFailed, "kafka\tfailed\tit ended 5 times\n", "1 of 2 services not healthy; dspy-agent services why NAME tells more\n  kafka: failed: it ended 5 times", "services", "up")
}

// TestServicesUpGivesUp: where Docker is away nothing comes along, and that is said once.
// While anything is under way it is waited for.
func TestServicesUpGivesUp(t *testing.T) {
	f, env := startFakeEnvManager(t)
	f.goesOn, f.phases = true, []string{"pulling", "engine_away"}
	for _, name := range []string{"redis", "kafka"} {
		f.has(name, "unhealthy", "", "")
		f.updates = append(f.updates, &pb.ServiceStatusUpdate{ServiceName: name, Status: "unhealthy", Message: "Docker does not answer"})
	}
	expect(t, env, exitFailed, "redis\tunhealthy", "2 of 2 services not healthy; dspy-agent services why NAME tells more\n  redis, kafka: unhealthy: Docker does not answer\n", "services", "up")
	if n := f.calls("status redis kafka"); n != 2 {
		t.Errorf("asked %d times how they are: %q", n, f.asked)
	}
	f.phases = []string{"engine_away"}
	for _, name := range []string{"redis", "kafka"} {
		f.has(name, "unhealthy", "engine_away", "Docker does not answer")
	}
	expect(t, env, exitFailed, "", "nothing was done: Docker does not answer", "services", "down", "redis")
	expect(t, env, exitFailed, "", "nothing was done: Docker does not answer", "services", "restart", "redis")
}

// TestServicesUpIsLimited: what is under way for ever is told of, and waited for as long as
// was said.
func TestServicesUpIsLimited(t *testing.T) {
	f, env := startFakeEnvManager(t)
	f.goesOn, f.phases = true, []string{"pulling"}
	f.has("redis", "starting", "", "")
	f.updates = []*pb.ServiceStatusUpdate{{ServiceName: "redis", Status: "starting", Message: "the registry is away"}}
	expect(t, env, exitFailed, "redis\tstarting\tthe registry is away\n",
		"no longer waiting after 1.0s; env-manager goes on: 1 of 1 service not healthy; dspy-agent services why NAME tells more\n  redis: starting: the registry is away",
		"services", "up", "--timeout", "1")
}

func TestServicesInterrupted(t *testing.T) {
	f, env := startFakeEnvManager(t)
	f.goesOn = true
	f.logs["redis"] = []*pb.LogEntry{{Message: "hello"}}
	for _, tc := range []struct {
		args        []string
		code        int
		out, stderr string
	}{
		{[]string{"services", "up"}, exitInterrupted, "", "no longer waiting; env-manager goes on with the services"},
		{[]string{"services", "logs", "redis", "--follow"}, exitDone, "hello\n", ""},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		var out, errs bytes.Buffer
		run := env
		run.Args, run.Stdout, run.Stderr = append([]string{Program}, tc.args...), &out, &errs
		done := make(chan int, 1)
		read := make(chan struct{})
		if tc.out != "" {
			run.Stdout = &signalling{Buffer: &out, has: tc.out, came: read}
		} else {
			close(read)
		}
		go func() { done <- Main(ctx, run) }()
		<-f.saidAll
		<-read
		cancel(InterruptedError{Signal: syscall.SIGINT})
		if code := <-done; code != tc.code || out.String() != tc.out || !strings.Contains(errs.String(), tc.stderr) {
			t.Errorf("%v: exit %d, %q and %q", tc.args, code, out.String(), errs.String())
		}
	}
}

// signalling is a buffer that says when it has a text.
type signalling struct {
	*bytes.Buffer
	has  string
	came chan struct{}
}

func (s *signalling) Write(p []byte) (int, error) {
	n, err := s.Buffer.Write(p)
	if s.String() == s.has {
		close(s.came)
	}
	return n, err
}

func TestServicesDownAndRestart(t *testing.T) {
	f, env := startFakeEnvManager(t)
	f.has("redis", "running", "ready", "")
	f.has("kafka", "running", "ready", "")
	f.results = map[string]string{"redis": "stopped", "kafka": "stopped"}
	expect(t, env, exitDone, "kafka\tstopped\nredis\tstopped\n", "", "services", "down")
	f.results["redis"] = "not yet: stopping"
	expect(t, env, exitFailed, "redis\tnot yet: stopping", "not all of them have ended: redis", "services", "down", "redis")

	expect(t, env, exitDone, "redis\tready 1s after its start\nkafka\tready", "", "services", "restart", "redis", "kafka")
	f.restart = map[string]string{"redis": "it ended with exit code 1"}
	expect(t, env, exitFailed, "kafka\tready", "1 of 2 services not healthy\n  redis: it ended with exit code 1", "services", "restart", "redis", "kafka")
	expect(t, env, exitNotFound, "", "there are redis, kafka", "services", "restart", "kafka", "redsi")
	if n := f.calls("restart kafka"); n != 2 {
		t.Errorf("restarted %d times; a wrong name is to restart nothing: %q", n, f.asked)
	}
}

// TestServicesDownTellsWhatNeedsThem: of those that need it, the ones that run are named.
func TestServicesDownTellsWhatNeedsThem(t *testing.T) {
	f, env := startFakeEnvManager(t)
	users := usersOf(t, env, "redis")
	if len(users) < 2 {
		t.Fatalf("this test wants a built-in service that two others need; there are %q", users)
	}
	f.has("redis", "running", "ready", "")
	f.has(users[0], "running", "ready", "")
	f.has(users[1], "stopped", "stopped", "")
	f.results = map[string]string{"redis": "stopped", users[0]: "stopped"}
	_, _, stderr := dspyAgent(t, env, "services", "down", "redis")
	if want := "note: what needs redis ends first: " + users[0] + "\n"; stderr != want {
		t.Errorf("got %q, want %q", stderr, want)
	}
}

func TestServicesPull(t *testing.T) {
	f, env := startFakeEnvManager(t)
	f.pulls = []*pb.ImagePullProgress{
		{ImageName: "redis:7", Status: "downloading", Total: 1 << 20, ProgressPercent: 40},
		{ImageName: "redis:7", Status: "complete", ProgressPercent: 100},
	}
	if out := expect(t, env, exitDone, "redis:7", "", "services", "pull"); out != "redis:7\tcomplete\n" || f.calls("pull") != 1 {
		t.Errorf("got %q, asked %q", out, f.asked)
	}
	_, screen := newTerminal(t, 100, 24).run(t, env, "services", "pull")
	if !strings.Contains(screen, "40% of 1.0 MiB") || !strings.Contains(screen, "\x1b[1A\rredis:7  complete") {
		t.Errorf("the terminal shows %q", screen)
	}
	f.pulls = append(f.pulls, &pb.ImagePullProgress{ImageName: "mine:1", Status: "error", Message: "there is no such image"})
	expect(t, env, exitFailed, "mine:1\terror\tthere is no such image\n", "1 of 2 images could not be fetched\n  mine:1: there is no such image", "services", "pull", "redis", "mine:1")
	if first, last := f.asked[0], f.asked[len(f.asked)-1]; last != "pull redis:7-alpine mine:1" || !strings.Contains(first, "cp-kafka") {
		t.Errorf("a service stands for its image, an image for itself, and none for all services: %q", f.asked)
	}
	expect(t, env, exitNotFound, "", `there is no such service: "redsi"; there are `, "services", "pull", "redsi")
}

func TestServicesLogs(t *testing.T) {
	f, env := startFakeEnvManager(t)
	f.logs["redis"] = []*pb.LogEntry{{Message: "one", Timestamp: 1}, {Message: "\x1b[1mthree\x1b[0m", Timestamp: 3}, {Message: "four", Timestamp: 4}}
	f.logs["db"] = []*pb.LogEntry{{Message: "two", Timestamp: 2}, {Message: "also three", Timestamp: 3}}
	for _, tc := range []struct{ args, want string }{
		{"redis", "one\n\x1b[1mthree\x1b[0m\nfour\n"},
		{"redis --tail 1", "four\n"},
		{"redis redis", "one\n\x1b[1mthree\x1b[0m\nfour\n"},
		{"redis db", "redis | one\ndb    | two\nredis | \x1b[1mthree\x1b[0m\ndb    | also three\nredis | four\n"},
		{"db redis -n1", "db    | also three\nredis | four\n"},
	} {
		if out := expect(t, env, exitDone, tc.want, "", strings.Fields("services logs "+tc.args)...); out != tc.want {
			t.Errorf("%s: got %q, want %q", tc.args, out, tc.want)
		}
	}
	expect(t, env, exitNotFound, "", "there are redis, kafka", "services", "logs", "redsi")
	out := expect(t, env, exitDone, "redis | one", "", "services", "logs", "redis", "db", "--follow")
	if strings.Count(out, "\n") != 5 {
		t.Errorf("following leaves lines out: %q", out)
	}
}

func TestServicesWhy(t *testing.T) {
	f, env := startFakeEnvManager(t)
	v := f.has("redis", "unhealthy", "blocked", "port 6379 is taken by pid 7")
	v.ContainerId, v.StartedAt = "abc", time.Now().Unix()
	out := expect(t, env, exitDone, "redis is kept from starting: port 6379 is taken by pid 7.\n\nstatus     unhealthy\nphase      blocked\nstarted ", "", "services", "why", "redis")
	if !strings.HasSuffix(out, "container  abc\nmore       dspy-agent services logs redis\n") {
		t.Errorf("got %q", out)
	}
	expect(t, env, exitDone, `"phase":"blocked","reason":"port 6379 is taken by pid 7"`, "", "services", "why", "redis", "--json")
	expect(t, env, exitNotFound, "", "there are redis, kafka", "services", "why", "redsi")
}

func TestServicesCompletion(t *testing.T) {
	env := testEnv(t)
	for words, want := range map[string]string{
		"serv":                      "services\n",
		"services re":               "restart\n",
		"services up redi":          "redis\n",
		"services why redis redi":   "",
		"services up redis redi":    "",
		"services logs --fo":        "--follow\n",
		"services quit ":            "",
		"services nonsense ":        "",
		"help services re":          "restart\n",
		"services restart x redi":   "redis\n",
		"services logs -n 1 redi":   "redis\n",
		"services status redi":      "redis\n",
		"services pull --json redi": "redis\n",
	} {
		_, out, errs := dspyAgent(t, env, append([]string{"__complete", "--"}, strings.Split(words, " ")...)...)
		if out != want || errs != "" {
			t.Errorf("%q: got %q (stderr %q), want %q", words, out, errs, want)
		}
	}
}

// TestBoardOfMany: where not all has room, what has settled gives way first.
func TestBoardOfMany(t *testing.T) {
	b := board{all: []*boardLine{{name: "a", settled: true}, {name: "b"}, {name: "c", settled: true}, {name: "d"}}}
	for rows, want := range map[int]string{5: "abcd", 4: "abcd", 3: "bcd", 2: "bd", 1: "b", 0: ""} {
		got := ""
		for _, l := range b.fitting(rows) {
			got += l.name
		}
		if got != want {
			t.Errorf("in %d rows: %q, want %q", rows, got, want)
		}
	}
}
