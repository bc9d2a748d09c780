package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// The names in this file are what scripts read: they are added to, never
// renamed or given another meaning. The doc tags become docs/cli.md.
//
// Times are RFC 3339 in UTC with milliseconds, absent when they have not come;
// durations are seconds. ps and status of many print one array; commands that
// tell of things as they happen print one object per line.

// jsonTask is a task, in ps, show, wait, submit, cancel, retry and why.
type jsonTask struct {
	ID           string    `json:"id" doc:"the task's id"`
	Seq          uint64    `json:"seq" doc:"its place in the order of acceptance, from 1"`
	Name         string    `json:"name,omitempty" doc:"for people"`
	Class        string    `json:"class" doc:"its class"`
	Priority     int32     `json:"priority" doc:"higher is sooner"`
	State        string    `json:"state" doc:"pending, assigned, starting, running, stopping, succeeded, failed, cancelled or lost"`
	Status       string    `json:"status" doc:"the state in four words: pending, running, completed or failed"`
	Attempt      int32     `json:"attempt" doc:"number of the current attempt, from 1"`
	Backend      string    `json:"backend,omitempty" doc:"where the attempt runs"`
	Detail       string    `json:"detail,omitempty" doc:"what the backend says about the state"`
	CancelAsked  bool      `json:"cancel_asked,omitempty" doc:"somebody asked to cancel it"`
	WaitsFor     int32     `json:"waits_for,omitempty" doc:"how many tasks it waits for"`
	Held         string    `json:"held,omitempty" doc:"why it is held until somebody lets it go: queue release"`
	SubmittedAt  *jsonTime `json:"submitted_at,omitempty" doc:"when it was accepted"`
	AssignedAt   *jsonTime `json:"assigned_at,omitempty" doc:"when the attempt was given to a backend"`
	StartingAt   *jsonTime `json:"starting_at,omitempty" doc:"when the backend took it"`
	StartedAt    *jsonTime `json:"started_at,omitempty" doc:"when it was seen to run"`
	StoppingAt   *jsonTime `json:"stopping_at,omitempty" doc:"when we began to stop it"`
	EndedAt      *jsonTime `json:"ended_at,omitempty" doc:"when the attempt ended"`
	NotBefore    *jsonTime `json:"not_before,omitempty" doc:"a retry does not start before this"`
	WaitedS      *float64  `json:"waited_s,omitempty" doc:"seconds from acceptance to the start of the attempt"`
	RanS         *float64  `json:"ran_s,omitempty" doc:"seconds that the attempt ran, so far"`
	ExitCode     *int32    `json:"exit_code,omitempty" doc:"of its program; absent when there is none"`
	Signal       int32     `json:"signal,omitempty" doc:"that killed its program"`
	FailureClass string    `json:"failure_class,omitempty" doc:"user_error, timeout, out_of_memory, could_not_start, dependency_failed, vanished ..."`
	Error        string    `json:"error,omitempty" doc:"one sentence about how it ended"`
	Node         string    `json:"node,omitempty" doc:"the host it ran on"`
	MaxRSSBytes  int64     `json:"max_rss_bytes,omitempty" doc:"the most memory that its program held"`
	CPUTimeS     float64   `json:"cpu_time_s,omitempty" doc:"seconds of processor time"`
	GPUs         []string  `json:"gpus,omitempty" doc:"UUIDs of the GPUs that the attempt holds"`
	GPUHeldS     float64   `json:"gpu_seconds_held,omitempty" doc:"seconds that it held GPUs, all together; a share counts by its part"`
	GPUBusyS     *float64  `json:"gpu_seconds_busy,omitempty" doc:"of these, in which they computed, as sampled every few seconds; absent when the driver does not tell"`
	GPUPeakBytes int64     `json:"gpu_mem_peak_bytes,omitempty" doc:"the most GPU memory that it was seen with"`
	LogPath      string    `json:"log_path,omitempty" doc:"the file with its output"`
	SubmittedVia string    `json:"submitted_via,omitempty" doc:"by which door it came"`

	Spec   *jsonSpec       `json:"spec,omitempty" doc:"what was asked for (show)"`
	Past   []jsonAttempt   `json:"past,omitempty" doc:"earlier attempts, oldest first"`
	Result json.RawMessage `json:"result,omitempty" doc:"the JSON object that it returned (show, wait)"`

	Existing bool   `json:"existing,omitempty" doc:"it had been submitted before (submit)"`
	Reason   string `json:"reason,omitempty" doc:"why it is where it is (why)"`
}

// jsonSpec is what was asked for.
type jsonSpec struct {
	Argv         []string        `json:"argv,omitempty" doc:"the program and its arguments"`
	Dir          string          `json:"workdir,omitempty" doc:"its working directory; of a container, the one in it, absent for the image's own"`
	Image        string          `json:"image,omitempty" doc:"container image that it runs in"`
	Mounts       []jsonMount     `json:"mounts,omitempty" doc:"paths of the host that the container sees"`
	Env          []string        `json:"env,omitempty" doc:"variables that --env added, NAME=VALUE; those that were taken along are not listed, and a container gets none"`
	Payload      json.RawMessage `json:"payload,omitempty" doc:"the JSON object that it was given"`
	TimeoutS     float64         `json:"timeout_s,omitempty" doc:"its time limit in seconds"`
	ClassTimeout bool            `json:"class_timeout,omitempty" doc:"the time limit is what its class enforces: none was asked for"`
	GraceS       float64         `json:"grace_s,omitempty" doc:"seconds between SIGTERM and SIGKILL"`
	Retries      int32           `json:"retries,omitempty" doc:"attempts after the first for failures of its own"`
	After        []jsonAfter     `json:"after,omitempty" doc:"tasks that have to end first"`
	OnLost       string          `json:"on_lost,omitempty" doc:"fail or retry"`

	Resources *jsonResources `json:"resources,omitempty" doc:"what it asked for of the machine; absent when nothing"`
}

// jsonResources is what a task asked for of the machine.
type jsonResources struct {
	CPUs     float64 `json:"cpus,omitempty" doc:"CPUs; absent for the one that every task gets"`
	MemBytes int64   `json:"mem_bytes,omitempty" doc:"memory"`

	GPUs        int32  `json:"gpus,omitempty" doc:"whole GPUs"`
	GPUMemBytes int64  `json:"gpu_mem_bytes,omitempty" doc:"memory of one GPU, for a share of it"`
	GPUModel    string `json:"gpu_model,omitempty" doc:"model of GPU"`
	MIG         string `json:"mig,omitempty" doc:"profile of a MIG instance"`
}

// jsonMount is a path of the host that a container sees.
type jsonMount struct {
	HostPath  string `json:"host_path" doc:"on the host"`
	MountPath string `json:"mount_path" doc:"in the container"`
	ReadOnly  bool   `json:"read_only" doc:"the container cannot write there"`
}

// jsonAfter is a task that has to end first.
type jsonAfter struct {
	ID   string `json:"id" doc:"the task to wait for"`
	When string `json:"when" doc:"ok, any or notok"`
}

// jsonAttempt is an attempt that another one followed.
type jsonAttempt struct {
	Number       int32     `json:"attempt" doc:"its number"`
	State        string    `json:"state" doc:"how it ended"`
	Backend      string    `json:"backend,omitempty" doc:"where it ran"`
	StartedAt    *jsonTime `json:"started_at,omitempty" doc:"when it was seen to run"`
	EndedAt      *jsonTime `json:"ended_at,omitempty" doc:"when it ended"`
	ExitCode     *int32    `json:"exit_code,omitempty" doc:"of its program; absent when there is none"`
	Signal       int32     `json:"signal,omitempty" doc:"that killed its program"`
	FailureClass string    `json:"failure_class,omitempty" doc:"as for a task"`
	Error        string    `json:"error,omitempty" doc:"one sentence about how it ended"`
}

// jsonEvent is a line of ps --watch --json.
type jsonEvent struct {
	Index uint64         `json:"index" doc:"its place in the event log"`
	At    *jsonTime      `json:"at" doc:"when it happened"`
	Event string         `json:"event" doc:"what happened, such as task_started"`
	ID    string         `json:"id" doc:"the task"`
	Data  map[string]any `json:"data,omitempty" doc:"what else is known, with the names and types of a task: class, state, status, attempt, backend, exit_code, error, failure_class, not_before; and text, a remark"`
}

// jsonLeft is submit --json where the queue is owned on another host.
type jsonLeft struct {
	ID    string `json:"id" doc:"of the task, which is accepted when the owner takes it"`
	Owner string `json:"left_for_host" doc:"where the owner of the queue runs"`
	PID   int    `json:"left_for_pid" doc:"of the owner, there"`
}

// jsonDrain is drain --json.
type jsonDrain struct {
	Reason   string         `json:"reason" doc:"why it ended: finished, time over, asked away, or somebody else does it"`
	Owner    string         `json:"owner,omitempty" doc:"who does it, in words"`
	Ended    map[string]int `json:"ended" doc:"how many tasks ended meanwhile, by state"`
	Running  int            `json:"running" doc:"tasks left running"`
	Waiting  int            `json:"waiting" doc:"tasks left waiting"`
	Rejected int            `json:"rejected" doc:"files of the drop folder that cannot be tasks; rejected/ there says why"`
	TookMS   int64          `json:"took_ms" doc:"milliseconds"`
}

// jsonStatus is the answer of status.
type jsonStatus struct {
	Running   bool      `json:"running" doc:"a daemon answers"`
	Healthy   bool      `json:"healthy" doc:"it accepts tasks"`
	Role      string    `json:"role,omitempty" doc:"daemon, or drain"`
	PID       int32     `json:"pid,omitempty" doc:"of the daemon"`
	Version   string    `json:"version,omitempty" doc:"of the daemon"`
	StartedAt *jsonTime `json:"started_at,omitempty" doc:"since when it runs"`
	Workspace string    `json:"workspace" doc:"the folder it serves"`
	QueueDir  string    `json:"queue_dir" doc:"where the queue is"`
	QueueID   string    `json:"queue_id,omitempty" doc:"the queue's own random id"`
	LogFile   string    `json:"log_file,omitempty" doc:"the daemon's log"`
	Socket    string    `json:"socket" doc:"where it is called"`
	// ConfigChanged is for a daemon that has read another file than there is now.
	ConfigChanged bool `json:"config_changed,omitempty" doc:"the configuration file was changed since the daemon read it"`

	Services map[string]string           `json:"services,omitempty" doc:"the parts that are watched and how they are"`
	Queue    map[string]map[string]int64 `json:"queue,omitempty" doc:"number of tasks by class and state; every state is there"`

	Paused map[string]jsonPause `json:"paused_classes,omitempty" doc:"the classes of which nothing is started"`
}

// jsonDaemon is one daemon in the answer of status --all.
type jsonDaemon struct {
	Answers   bool      `json:"answers" doc:"it says who it is; of one that does not only the socket is known"`
	Healthy   bool      `json:"healthy" doc:"it accepts tasks"`
	Role      string    `json:"role,omitempty" doc:"daemon, or drain"`
	PID       int32     `json:"pid,omitempty" doc:"of the daemon"`
	StartedAt *jsonTime `json:"started_at,omitempty" doc:"since when it runs"`
	Workspace string    `json:"workspace" doc:"the folder it serves"`
	QueueDir  string    `json:"queue_dir" doc:"where the queue is"`
	Socket    string    `json:"socket" doc:"where it is called"`
	Waiting   int64     `json:"waiting" doc:"number of its tasks that wait"`
	Active    int64     `json:"active" doc:"number of its tasks that run, or are about to, or end"`
}

// jsonPause is why a class is paused.
type jsonPause struct {
	At     *jsonTime `json:"at,omitempty" doc:"since when"`
	By     string    `json:"by,omitempty" doc:"by whom"`
	Reason string    `json:"reason,omitempty" doc:"why"`
}

// jsonAccess is the answer of access.
type jsonAccess struct {
	Dir         string   `json:"dir" doc:"folder of the certificate, its key and the token"`
	Certificate string   `json:"certificate,omitempty" doc:"file of the certificate, which clients need as well"`
	Hosts       []string `json:"hosts,omitempty" doc:"names and addresses that it is for"`
	Warning     string   `json:"warning,omitempty" doc:"what is wrong with them, or that the certificate ends soon"`
	TokenFile   string   `json:"token_file,omitempty" doc:"file of the token"`
	Token       string   `json:"token,omitempty" doc:"the token itself, with --secret"`
	GRPC        string   `json:"grpc,omitempty" doc:"address of the running daemon for gRPC, else the configured one"`
	HTTP        string   `json:"http,omitempty" doc:"the same for HTTP"`
}

// jsonRefused is a task that was not accepted.
type jsonRefused struct {
	ID    string `json:"id,omitempty" doc:"the task's id"`
	Line  int    `json:"line,omitempty" doc:"its line in the file"`
	Code  string `json:"code" doc:"invalid, conflict, exhausted, unsupported, not_found, unavailable or internal"`
	Error string `json:"error" doc:"why, in a sentence"`
}

// jsonBatch is the answer of submit --from-file.
type jsonBatch struct {
	Accepted int           `json:"accepted" doc:"tasks that are new"`
	Existing int           `json:"existing" doc:"tasks that had been submitted before"`
	Refused  []jsonRefused `json:"refused" doc:"tasks that were not accepted"`
	IDs      []string      `json:"ids" doc:"the ids of all that are in the queue now, in the order of the file"`
}

// jsonFinding is a line of doctor.
type jsonFinding struct {
	Name   string `json:"name" doc:"the check: docs/doctor.md lists them"`
	Status string `json:"status" doc:"ok, note, warning or problem"`
	Text   string `json:"text" doc:"what was found"`
	Mend   string `json:"mend,omitempty" doc:"what to do about it"`
}

// jsonVersion is the answer of version.
type jsonVersion struct {
	Version  string `json:"version" doc:"of this program"`
	Commit   string `json:"commit,omitempty" doc:"that it was built from"`
	Go       string `json:"go" doc:"the compiler"`
	Platform string `json:"platform" doc:"system and processor"`
	Protocol string `json:"protocol" doc:"the daemon's API that it speaks"`
}

// jsonDocs lists the objects for docs/cli.md.
var jsonDocs = []struct {
	name string
	of   any
}{
	{"task", jsonTask{}}, {"spec of a task", jsonSpec{}}, {"resources of a spec", jsonResources{}}, {"after of a spec", jsonAfter{}}, {"mount of a spec", jsonMount{}},
	{"past attempt", jsonAttempt{}}, {"event (ps --watch)", jsonEvent{}}, {"status", jsonStatus{}}, {"drain", jsonDrain{}}, {"submit, where another host has the queue", jsonLeft{}}, {"paused class of status", jsonPause{}},
	{"queue stats", jsonQueue{}}, {"class of queue stats, pause and resume", jsonClass{}}, {"recent of a class", jsonRecent{}},
	{"queue verify", jsonVerify{}}, {"finding of queue verify, repair and restore", jsonFound{}}, {"queue backup", jsonBackup{}},
	{"slurm info", jsonSlurm{}}, {"partition of slurm info", jsonPartition{}}, {"GPUs of a partition", jsonGPUCount{}},
	{"slurm render and slurm test", jsonSlurmJob{}},
	{"gpus", jsonGPUs{}}, {"GPU of gpus, gpus drain and gpus resume", jsonGPU{}}, {"process of a GPU", jsonGPUProcess{}},
	{"queue repair and restore", jsonRepair{}}, {"queue compact", jsonCompact{}},
	{"refused task", jsonRefused{}}, {"submit --from-file", jsonBatch{}}, {"doctor", jsonFinding{}}, {"version", jsonVersion{}},
	{"images", jsonImage{}}, {"service of services", jsonService{}}, {"config show", jsonConfig{}}, {"setting of config show", jsonSetting{}}, {"config check", jsonConfigCheck{}}, {"problem of config check", jsonProblem{}},
}

// jsonTime is a point in time.
type jsonTime time.Time

const jsonTimeFormat = "2006-01-02T15:04:05.000Z07:00"

// MarshalJSON writes RFC 3339 in UTC with milliseconds.
func (t jsonTime) MarshalJSON() ([]byte, error) {
	return []byte(`"` + time.Time(t).UTC().Format(jsonTimeFormat) + `"`), nil
}

func jsonAt(ns int64) *jsonTime {
	if ns == 0 {
		return nil
	}
	t := jsonTime(time.Unix(0, ns))
	return &t
}

// taskJSON converts what the daemon said.
func taskJSON(t *pb.TaskInfo, now time.Time) jsonTask {
	o := t.GetOutcome()
	j := jsonTask{
		ID: t.GetId(), Seq: t.GetSeq(), Name: t.GetName(), Class: t.GetClass(), Priority: t.GetPriority(),
		State: t.GetState(), Status: t.GetStatus(), Attempt: t.GetAttempt(), Backend: t.GetBackend(),
		Detail: t.GetDetail(), CancelAsked: t.GetCancelAsked(), WaitsFor: t.GetBlocked(),
		SubmittedAt: jsonAt(t.GetSubmittedAtNs()), AssignedAt: jsonAt(t.GetAssignedAtNs()),
		StartingAt: jsonAt(t.GetStartingAtNs()), StartedAt: jsonAt(t.GetStartedAtNs()),
		StoppingAt: jsonAt(t.GetStoppingAtNs()), EndedAt: jsonAt(t.GetEndedAtNs()), NotBefore: jsonAt(t.GetNotBeforeNs()),
		ExitCode: exitCodeOf(o, t.GetEndedAtNs() != 0), Signal: o.GetSignal(), FailureClass: o.GetFailureClass(), Error: o.GetMessage(),
		Node: o.GetNode(), MaxRSSBytes: o.GetMaxRssBytes(), CPUTimeS: time.Duration(o.GetCpuTimeNs()).Seconds(),
		LogPath: t.GetLogPath(), SubmittedVia: t.GetSubmittedVia(), Held: t.GetHeld(),
		Spec: specJSON(t.GetSpec()), Result: rawJSON(t.GetResultJson()),
	}
	j.GPUs = t.GetGpus()
	if u := o.GetGpu(); u != nil {
		j.GPUHeldS, j.GPUPeakBytes = u.GetSecondsHeld(), u.GetMemPeakBytes()
		if u.GetSecondsBusy() >= 0 {
			j.GPUBusyS = &u.SecondsBusy
		}
	}
	if t.GetStartedAtNs() != 0 {
		j.WaitedS = seconds(time.Duration(t.GetStartedAtNs() - t.GetSubmittedAtNs()))
		j.RanS = seconds(ran(t, now))
	}
	for _, a := range t.GetPast() {
		o := a.GetOutcome()
		j.Past = append(j.Past, jsonAttempt{
			Number: a.GetNumber(), State: a.GetState(), Backend: a.GetBackend(),
			StartedAt: jsonAt(a.GetStartedAtNs()), EndedAt: jsonAt(a.GetEndedAtNs()),
			ExitCode: exitCodeOf(o, true), Signal: o.GetSignal(), FailureClass: o.GetFailureClass(), Error: o.GetMessage(),
		})
	}
	return j
}

func specJSON(s *pb.TaskSpec) *jsonSpec {
	if s == nil {
		return nil
	}
	j := &jsonSpec{
		Argv: s.GetArgv(), Dir: s.GetDir(), Env: s.GetEnv(), Payload: rawJSON(s.GetPayloadJson()),
		TimeoutS: float64(s.GetTimeoutMs()) / 1000, ClassTimeout: s.GetClassTimeout(), GraceS: float64(s.GetGraceMs()) / 1000,
		Retries: s.GetRetries(), OnLost: s.GetOnLost(), Resources: resourcesJSON(s.GetResources()), Image: s.GetImage(),
	}
	if s.GetImage() != "" {
		j.Dir = s.GetContainerDir()
	}
	for _, m := range s.GetMounts() {
		j.Mounts = append(j.Mounts, jsonMount{HostPath: m.GetHostPath(), MountPath: m.GetMountPath(), ReadOnly: m.GetReadOnly()})
	}
	for _, d := range s.GetAfter() {
		j.After = append(j.After, jsonAfter{ID: d.GetId(), When: d.GetWhen()})
	}
	return j
}

func resourcesJSON(r *pb.Resources) *jsonResources {
	j := jsonResources{
		CPUs: float64(r.GetCpuMillicores()) / 1000, MemBytes: r.GetMemBytes(),
		GPUs: r.GetGpus(), GPUMemBytes: r.GetGpuMemBytes(), GPUModel: r.GetGpuModel(), MIG: r.GetMig(),
	}
	if j == (jsonResources{}) {
		return nil
	}
	return &j
}

// exitCodeOf returns the exit code that a program really had: one that a signal
// killed, or that never ran, has none.
func exitCodeOf(o *pb.Outcome, ended bool) *int32 {
	if o == nil || !ended || o.GetExitCode() < 0 || o.GetSignal() != 0 {
		return nil
	}
	c := o.GetExitCode()
	return &c
}

// rawJSON passes JSON through; what is not JSON becomes a string of it, so that
// the output as a whole stays readable.
func rawJSON(b []byte) json.RawMessage {
	switch {
	case len(b) == 0:
		return nil
	case json.Valid(b):
		return b
	}
	quoted, err := json.Marshal(string(b))
	if err != nil {
		return nil
	}
	return quoted
}

func seconds(d time.Duration) *float64 {
	s := d.Round(time.Millisecond).Seconds()
	return &s
}

// writeJSON writes one value: indented for a terminal, on one line for a pipe.
func writeJSON(w *screen, v any) error {
	e := encoder(w)
	if w.tty {
		e.SetIndent("", "  ")
	}
	return e.Encode(v)
}

// writeJSONLine writes one line of a stream of objects.
func writeJSONLine(w *screen, v any) error { return encoder(w).Encode(v) }

// encoder leaves < and & as they are: nobody pastes this into HTML.
func encoder(w io.Writer) *json.Encoder {
	if sc, ok := w.(*screen); ok && sc.tty {
		w = escaping{sc}
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e
}

// escaping writes JSON to a terminal. JSON may have characters such as U+009B as
// they are, which act on a terminal; they stand in strings only, where an escape
// means the same.
type escaping struct{ to io.Writer }

// Write writes whole values.
func (e escaping) Write(p []byte) (int, error) {
	if _, err := e.to.Write(escapeJSON(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

func escapeJSON(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for _, r := range string(b) {
		if actsOnTerminal(r) && r != '\n' && r != '\t' && r != '\r' {
			out = fmt.Appendf(out, `\u%04x`, r)
		} else {
			out = utf8.AppendRune(out, r)
		}
	}
	return out
}
