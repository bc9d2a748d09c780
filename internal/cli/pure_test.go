package cli

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

func TestArrange(t *testing.T) {
	s := newSession(Env{})
	for _, tc := range []struct {
		in, want string // want begins with "!" for an error
	}{
		{"show ID --json", "dspy-agent show --json -- ID"},
		{"show --json ID", "dspy-agent show --json -- ID"},
		{"ps --workspace /w --limit 5", "dspy-agent --workspace=/w ps --limit=5 --"},
		{"--workspace=/w ps -n 5", "dspy-agent --workspace=/w ps --limit=5 --"},
		{"logs -f ID --tail=3", "dspy-agent logs --follow --tail=3 -- ID"},
		{"submit --env A=1,2 -- python --json -x", "dspy-agent submit --env=A=1,2 -- python --json -x"},
		{"submit -- a -- b", "dspy-agent submit -- a -- b"},
		{"submit --priority -3 -- a", "dspy-agent submit --priority=-3 -- a"},
		{"submit --payload - ", "dspy-agent submit --payload=- --"},
		{"submit hostname", "dspy-agent submit -- hostname"},
		{"submit hostname --wait", "!put -- before the command"},
		{"show ID --jsn", "!did you mean --json?"},
		{"shwo ID", "!did you mean show?"},
		{"frobnicate", "!--help lists"},
		{"submit --prio 3", "!no flag --prio of submit; did you mean --priority? dspy-agent help submit lists all"},
		{"submit --frobnicate", "!dspy-agent help submit lists what there is"},
		{"list", "!did you mean ps?"},
		{"run", "!did you mean submit?"},
		{"sub", "!did you mean submit?"},
		{"kill", "!did you mean cancel?"},
		{"ps --limit", "!needs a value"},
		{"ps --limit many", "!not a whole number"},
		{"ps -json", "!did you mean --json?"},
		{"-- ps", "!name the command first"},
	} {
		app := s.app()
		app.Setup()
		got, err := arrange(app, strings.Fields(tc.in))
		said := strings.Join(got, " ")
		if err != nil {
			said = "!" + err.Error()
		}
		if tc.want[0] == '!' && (err == nil || !strings.Contains(said, tc.want[1:])) || tc.want[0] != '!' && said != tc.want {
			t.Errorf("%s\n got  %s\n want %s", tc.in, said, tc.want)
		}
	}
}

// TestArrangeKeepsTheCommand: what follows -- reaches the task byte by byte.
func TestArrangeKeepsTheCommand(t *testing.T) {
	app := newSession(Env{}).app()
	argv := []string{"sh", "-c", "echo \xff '$A' \n", "", "--", "-h", "--workspace", "x"}
	got, err := arrange(app, append([]string{"submit", "--"}, argv...))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got[3:], argv) {
		t.Errorf("got %q", got)
	}
}

func TestNearest(t *testing.T) {
	for _, tc := range []struct{ got, want string }{
		{"stauts", "status"}, {"sumbit", "submit"}, {"pss", "ps"}, {"x", ""}, {"kubernetes", ""}, {"wiat", "wait"},
	} {
		if n := nearest(tc.got, []string{"start", "status", "submit", "ps", "wait"}); n != tc.want {
			t.Errorf("%s: got %q, want %q", tc.got, n, tc.want)
		}
	}
}

func TestParseSpan(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"90": 90 * time.Second, "0.5": 500 * time.Millisecond, "10m": 10 * time.Minute, "1h30m": 90 * time.Minute, "2d": 48 * time.Hour, "1d12h": 36 * time.Hour,
	} {
		if got, err := parseSpan(in); err != nil || got != want {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "-1", "x", "d", "1dd", "NaN", "1e30", "-5m", "1 h", "1d30"} {
		if got, err := parseSpan(in); err == nil {
			t.Errorf("%q was taken as %v", in, got)
		}
	}
}

// TestWord: what is held waits for a person first, whatever else it waits for.
func TestWord(t *testing.T) {
	for _, c := range []struct {
		task *pb.TaskInfo
		want string
	}{
		{&pb.TaskInfo{State: "pending", Attempt: 2}, "attempt 2 follows"},
		{&pb.TaskInfo{State: "pending", Attempt: 2, Blocked: 1}, "waits for 1 task"},
		{&pb.TaskInfo{State: "pending", Attempt: 2, Blocked: 1, Held: "restored from a backup"}, "held: restored from a backup"},
		{&pb.TaskInfo{State: "succeeded"}, ""},
	} {
		if got := word(c.task); got != c.want {
			t.Errorf("%v: got %q, want %q", c.task, got, c.want)
		}
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0ms", 350 * time.Millisecond: "350ms", 4260 * time.Millisecond: "4.2s", 59900 * time.Millisecond: "59s",
		187 * time.Second: "3m 7s", 3*time.Hour + 5*time.Minute: "3h 5m", time.Hour: "1h", 180 * time.Second: "3m",
		2600 * time.Microsecond: "3ms", 999900 * time.Microsecond: "1.0s", 50 * time.Hour: "2d 2h",
	} {
		if got := span(d); got != want {
			t.Errorf("%d: got %s, want %s", d, got, want)
		}
	}
}

func TestAge(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	for d, want := range map[time.Duration]string{
		0: "now", -time.Second: "now", 5 * time.Second: "5s", 90 * time.Second: "1m", 47 * time.Hour: "47h", 50 * time.Hour: "2d",
	} {
		if got := age(now.Add(-d).UnixNano(), now); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}

func TestEnvironmentOfATask(t *testing.T) {
	env := Env{Environ: []string{"PATH=/bin", "LC_ALL=C", "AWS_SECRET_KEY=s", "HF_TOKEN=t", "MY=1", "PATH=/usr/bin", "XDG_RUNTIME_DIR=/run/x"}}
	if got, want := ambient(env), []string{"LC_ALL=C", "PATH=/usr/bin"}; !slices.Equal(got, want) {
		t.Errorf("taken along: %q", got)
	}
	got, err := chosen(env, []string{"MY", "SEED=a=b", "LC_ALL=POSIX"})
	if want := []string{"LC_ALL=POSIX", "MY=1", "SEED=a=b"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("chosen: %q, %v", got, err)
	}
	for _, extra := range []string{"UNSET", "", "=x"} {
		if _, err := chosen(env, []string{extra}); err == nil {
			t.Errorf("--env %q was accepted", extra)
		}
	}
}

func TestTaskExit(t *testing.T) {
	for _, tc := range []struct {
		state string
		o     *pb.Outcome
		want  int
	}{
		{"succeeded", &pb.Outcome{}, 0},
		{"failed", &pb.Outcome{ExitCode: 3, FailureClass: "user_error"}, 3},
		{"failed", &pb.Outcome{ExitCode: -1, Signal: 9, FailureClass: "out_of_memory"}, 137},
		{"failed", &pb.Outcome{ExitCode: -1, Signal: 15, FailureClass: "timeout"}, 124},
		{"failed", &pb.Outcome{ExitCode: 0, FailureClass: "timeout"}, 124},
		{"failed", &pb.Outcome{ExitCode: -1, FailureClass: "could_not_start"}, 1},
		{"cancelled", &pb.Outcome{ExitCode: -1, Signal: 15}, 125},
		{"lost", &pb.Outcome{ExitCode: -1, FailureClass: "vanished"}, 1},
	} {
		if got := taskExit(&pb.TaskInfo{State: tc.state, Outcome: tc.o}); got != tc.want {
			t.Errorf("%s %v: got %d, want %d", tc.state, tc.o, got, tc.want)
		}
	}
}

// TestExitCodes: every code of an error has an exit code of its own decision.
func TestExitCodes(t *testing.T) {
	for c := task.CodeInternal; c <= task.CodeUnsupported; c++ {
		want, ok := exitOfCode[c]
		if got := exitCode(t.Context(), task.Errorf(c, "x")); !ok || got != want {
			t.Errorf("%s: got %d, want %d (in the table: %v)", c, got, want, ok)
		}
	}
}

func TestOneLineDefusesTerminals(t *testing.T) {
	if got := oneLine("a\x1b]0;title\x07\nb\u202e\tc"); got != "a?]0;title? b? c" {
		t.Errorf("got %q", got)
	}
}

func TestGridFits(t *testing.T) {
	var b strings.Builder
	w := &screen{w: &b, fd: -1, tty: true, unicode: true, colour: true}
	g := grid{header: []string{"ID", "NAME", "STATE"}}
	g.add("01HZZZZZZZZZZZZZZZZZZZZZZZ", strings.Repeat("long ", 40), w.state("running"))
	g.add("x", "日本語のとても長い名前日本語のとても長い名前", w.state("failed"))
	g.render(w, 60)
	for line := range strings.Lines(b.String()) {
		plain := stripANSI(strings.TrimSuffix(line, "\n"))
		if n := len([]rune(plain)); n > 60 {
			t.Errorf("%d columns: %q", n, plain)
		}
		if !strings.Contains(line, "ID") && !strings.Contains(line, "…") {
			t.Errorf("nothing was cut off: %q", line)
		}
	}
}

// TestGridOfTasks: times are never cut, and one long id does not take the room of all the
// rest.
func TestGridOfTasks(t *testing.T) {
	var b strings.Builder
	w := &screen{w: &b, fd: -1, tty: true, unicode: true}
	s := &session{out: w, now: time.Now}
	var tasks []*pb.TaskInfo
	for i, id := range []string{"01M8Z3QKV7X5Y1V6S0GTRN0ABC", strings.Repeat("sweep/", 33)} {
		tasks = append(tasks, &pb.TaskInfo{
			Id: id, Name: strings.Repeat("train ", 12), Class: "cpu_short", State: "running", Attempt: 1, Detail: strings.Repeat("words ", 9),
			SubmittedAtNs: time.Now().Add(-time.Duration(10+i) * time.Second).UnixNano(), StartedAtNs: time.Now().UnixNano(),
		})
	}
	g := s.taskGrid(tasks)
	g.header[5] = "SUBMITTED" // as a wide terminal has it
	for i := range g.rows {
		g.rows[i][5] = fmt.Sprintf("%d seconds ago", 10+i)
	}
	for _, cols := range []int{100, 120, 200} {
		b.Reset()
		g.render(w, cols)
		for _, want := range []string{" 10 seconds ago ", " 11 seconds ago ", "01M8Z3QKV7X5Y1V6S0GTRN0ABC ", " running ", "train "} {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%d columns: %q is cut off:\n%s", cols, want, b.String())
			}
		}
	}
}

func stripANSI(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == 0x1b {
			i += strings.IndexAny(s[i:], "mKHJhl")
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func TestLineKeysAreDocumented(t *testing.T) {
	documented := map[string]bool{}
	for _, d := range lineKeyDocs {
		documented[d.key] = true
		if lineKeys[d.key] == nil {
			t.Errorf("%s is documented and not known", d.key)
		}
	}
	for key := range lineKeys {
		if !documented[key] {
			t.Errorf("%s is not documented", key)
		}
	}
}

// TestJSONIsDocumented: every name that scripts may read says what it means.
func TestJSONIsDocumented(t *testing.T) {
	for _, d := range jsonDocs {
		typ := reflect.TypeOf(d.of)
		for f := range typ.Fields() {
			if f.Tag.Get("doc") == "" || f.Tag.Get("json") == "" {
				t.Errorf("%s.%s has no name or no text", typ, f.Name)
			}
		}
	}
}

func TestJSONTask(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6_789_000, time.UTC)
	j := taskJSON(&pb.TaskInfo{
		Id: "a", Seq: 7, Class: "cpu_long", State: "failed", Status: "failed", Attempt: 2,
		SubmittedAtNs: at.UnixNano(), StartedAtNs: at.Add(time.Second).UnixNano(), EndedAtNs: at.Add(3500 * time.Millisecond).UnixNano(),
		Outcome: &pb.Outcome{ExitCode: -1, Signal: 9, FailureClass: "out_of_memory", Message: "killed <9>"},
	}, at)
	got, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"id":"a","seq":7,"class":"cpu_long","priority":0,"state":"failed","status":"failed","attempt":2,` +
		`"submitted_at":"2026-01-02T03:04:05.006Z","started_at":"2026-01-02T03:04:06.006Z","ended_at":"2026-01-02T03:04:08.506Z",` +
		`"waited_s":1,"ran_s":2.5,"signal":9,"failure_class":"out_of_memory","error":"killed \u003c9\u003e"}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestLostRanForNobodyKnows: of a task that is lost only is known when that was found out,
// which of one from a backup may be weeks later.
func TestLostRanForNobodyKnows(t *testing.T) {
	lost := &pb.TaskInfo{Id: "a", State: "lost", StartedAtNs: 1, EndedAtNs: int64(time.Hour)}
	if got := endSentence(lost); strings.Contains(got, "after") {
		t.Errorf("it says %q", got)
	}
	if !ranKnown(&pb.TaskInfo{Id: "b", State: "failed", StartedAtNs: 1, EndedAtNs: 2}) {
		t.Error("of one that failed it is known")
	}
}
