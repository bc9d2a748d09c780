package payload_test

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/payload"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// becomes checks which spec a payload makes of one.
func becomes(t *testing.T, object string, from, want task.Spec) {
	t.Helper()
	if from.Class == "" {
		from.Class = "cpu_short"
	}
	want.Class = from.Class
	got := from
	if err := payload.Resolve(parse(t, object), types, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s became\n%+v, %v; want\n%+v", object, got, err, want)
	}
	got.ID = "t"
	if err := got.Validate(); err != nil {
		t.Errorf("%s became what the queue refuses: %v", object, err)
	}
}

func sh(line string) []string { return []string{"/bin/sh", "-c", line} }

func TestFlat(t *testing.T) {
	t.Parallel()
	x := sh("x")
	for object, want := range map[string]task.Spec{
		`{"command":"python x.py"}`:                                         {Argv: sh("python x.py")},
		`{"command":["python","x.py"]}`:                                     {Argv: []string{"python", "x.py"}},
		`{"command":"[\"python\",\"x.py\"]"}`:                               {Argv: []string{"python", "x.py"}},
		`{"command":["a b","$(c)",""]}`:                                     {Argv: []string{"a b", "$(c)", ""}},
		`{"command":"[ -f x ] && echo yes"}`:                                {Argv: sh("[ -f x ] && echo yes")},
		`{"command":"('echo' hi)"}`:                                         {Argv: sh("('echo' hi)")},
		`{"command":"{ echo 'a: b'; }"}`:                                    {Argv: sh("{ echo 'a: b'; }")},
		`{"command":"\ud83d\ude00 \u00fc \\ud8"}`:                           {Argv: sh("😀 ü \\ud8")},
		`{"command":"x","workdir":"/d","timeout":90}`:                       {Argv: x, Dir: "/d", Timeout: 90 * time.Second},
		`{"command":"x","timeout":"1.5"}`:                                   {Argv: x, Timeout: 1500 * time.Millisecond},
		`{"command":"x","timeout":"1h30m"}`:                                 {Argv: x, Timeout: 90 * time.Minute},
		`{"command":"x","timeout":0}`:                                       {Argv: x},
		`{"command":"x","timeout":1e-12}`:                                   {Argv: x, Timeout: 1},
		`{"command":"x","timeout":null,"workdir":null,"execution":null}`:    {Argv: x},
		`{"command":"x","workdir":"","image":""}`:                           {Argv: x},
		`{"command":"x","type":"y","action":"z"}`:                           {Argv: x},
		`{"command":"x","gpus":2.0,"gpu_memory":20}`:                        {Argv: x, Resources: task.Resources{GPUs: 2, GPUMem: 20e9}},
		`{"command":"x","gpus":"2","gpu_memory":"20"}`:                      {Argv: x, Resources: task.Resources{GPUs: 2, GPUMem: 20e9}},
		`{"command":"x","gpu_memory":"512MiB"}`:                             {Argv: x, Resources: task.Resources{GPUMem: 512 << 20}},
		`{"command":"x","gpu_memory":"1.5 gb"}`:                             {Argv: x, Resources: task.Resources{GPUMem: 15e8}},
		`{"command":"x","gpu_memory":"24G"}`:                                {Argv: x, Resources: task.Resources{GPUMem: 24e9}},
		`{"image":"alpine:3"}`:                                              {Image: "alpine:3"},
		`{"image":"alpine:3","command":["sh"],"tenant":7,"artifacts":"no"}`: {Image: "alpine:3", Argv: []string{"sh"}},
	} {
		becomes(t, object, task.Spec{}, want)
		becomes(t, object, task.Spec{Class: "cpu_long"}, want)
	}
}

func TestExecution(t *testing.T) {
	t.Parallel()
	x := []string{"x"}
	for object, want := range map[string]task.Spec{
		`{"execution":{"command":["x"]}}`:                                                                        {Argv: x},
		`{"execution":{"command":"[\"x\"]"}}`:                                                                    {Argv: x},
		`{"execution":{"command":["x"]},"command":"y","gpus":1,"image":"i"}`:                                     {Argv: x},
		`{"execution":{"command":["x"],"image":null,"env":null,"mounts":null}}`:                                  {Argv: x},
		`{"execution":{"command":["x"],"image":"","working_dir":"","resources":{}}}`:                             {Argv: x},
		`{"execution":{"command":["x"],"env":{},"mounts":[],"container_workdir":""}}`:                            {Argv: x},
		`{"execution":{"command":["x"],"comment":"mine","priority":9}}`:                                          {Argv: x},
		`{"execution":{"command":["x"],"env":{"B":"2","A":"","C":1.50}}}`:                                        {Argv: x, Env: []string{"A=", "B=2", "C=1.50"}},
		`{"execution":{"command":["x"],"timeout_seconds":1.5}}`:                                                  {Argv: x, Timeout: 1500 * time.Millisecond},
		`{"execution":{"command":["x"],"working_dir":"/a/../b"}}`:                                                {Argv: x, Dir: "/a/../b"},
		`{"execution":{"command":["x"]},"tenant":"lab","workflow_id":"w1"}`:                                      {Argv: x, Tenant: "lab", WorkflowID: "w1"},
		`{"execution":{"command":["x"]},"artifacts":{"outputs":[{"path":"m","type":"model","name":"n"}],"x":1}}`: {Argv: x},
		`{"execution":{"command":["x"],"image":"i","container_workdir":"/w/./x/"}}`:                              {Argv: x, Image: "i", ContainerDir: "/w/x"},
		`{"execution":{"command":["x"],"image":"i","mounts":[{"host_path":"/a/","mount_path":"/b"},{"host_path":"/a","mount_path":"/c","read_only":true}]}}`: {
			Argv: x, Image: "i", Mounts: []task.Mount{{Host: "/a", Target: "/b"}, {Host: "/a", Target: "/c", ReadOnly: true}},
		},
		`{"execution":{"command":["x"],"resources":{"cpu_millicores":"2000","mem_bytes":1.0,"gpu_count":2,"gpu_memory_gb":79.5,"gpu_class":"H100"}}}`: {
			Argv: x, Resources: task.Resources{CPUMilli: 2000, MemBytes: 1, GPUs: 2, GPUMem: 79.5e9, GPUModel: "H100"},
		},
	} {
		becomes(t, object, task.Spec{}, want)
	}
}

// What runs in its class's image, or in one that was asked for beside the payload, needs no
// command: it runs what the image says.
func TestGPUsAloneInImage(t *testing.T) {
	t.Parallel()
	for _, own := range []string{"", "own:1"} {
		spec := task.Spec{Class: "boxed", Image: own}
		class := "class:1"
		if own != "" {
			class = ""
		}
		err := payload.ResolveIn(parse(t, `{"gpus":1}`), types, &spec, class)
		if err != nil || spec.Image != own+class || spec.Resources.GPUs != 1 || len(spec.Argv) > 0 || spec.Builtin != "" {
			t.Errorf("image %q, class's %q: %+v, %v", own, class, spec, err)
		}
	}
}

func TestTyped(t *testing.T) {
	t.Parallel()
	sweep := task.Spec{
		Argv: []string{"python", "-m", "rl.sweep"}, Dir: "/srv/rl", Env: []string{"WANDB_MODE=offline"},
		Timeout: time.Hour, Retries: 1, Resources: task.Resources{CPUMilli: 4000},
	}
	becomes(t, `{"type":"rl_sweep","timeout":5,"image":"cat.png","gpus":"many"}`, task.Spec{}, sweep)
	becomes(t, `{"task_type":"rl_sweep"}`, task.Spec{}, sweep)
	becomes(t, `{"type":"rl_sweep","task_type":"report"}`, task.Spec{}, sweep)
	becomes(t, `{"type":null,"task_type":"report"}`, task.Spec{}, task.Spec{Argv: []string{"make", "report"}, Image: "lab/report:1"})

	own := task.Spec{Env: []string{"WANDB_MODE=online", "Z=1"}, Dir: "/d", Timeout: time.Minute, Retries: 3, Resources: task.Resources{CPUMilli: 1000, GPUs: 1}}
	want := own
	want.Argv = sweep.Argv
	becomes(t, `{"type":"rl_sweep"}`, own, want)
}

// TestTypesAreNotShared has nobody change the configuration through a spec.
func TestTypesAreNotShared(t *testing.T) {
	t.Parallel()
	spec := &task.Spec{}
	if err := payload.Resolve(parse(t, `{"type":"rl_sweep"}`), types, spec); err != nil {
		t.Fatal(err)
	}
	spec.Argv[0], spec.Env[0] = "changed", "changed"
	if sweep := types["rl_sweep"]; sweep.Argv[0] != "python" || sweep.Env[0] == "changed" {
		t.Error("a spec shares memory with its type")
	}
}

func TestEcho(t *testing.T) {
	t.Parallel()
	for _, object := range []string{
		`{}`, `{"message":"hello"}`, `{"command":null}`, `{"timeout":3}`, `{"workdir":"x"}`, `{"action":null}`, `{"image":""}`,
		`{"comment":"hi"}`, `{"commits":3}`, `{"time":1}`, `{"comand":null}`,
	} {
		becomes(t, object, task.Spec{}, task.Spec{Builtin: task.BuiltinEcho})
	}
}

func TestClass(t *testing.T) {
	t.Parallel()
	for object, want := range map[string]string{
		`{"type":"rl_sweep"}`: "cpu_long", `{"task_type":"rl_sweep"}`: "cpu_long", `{"type":"report"}`: "", `{"type":"gone"}`: "", `{"type":7}`: "",
		`{"type":"rl_sweep","command":"x"}`: "", `{"type":"rl_sweep","execution":{}}`: "", `{}`: "", `{"type":null}`: "",
	} {
		if got := payload.Class(parse(t, object), types); got != want {
			t.Errorf("%s asks for class %q, want %q", object, got, want)
		}
	}
	if got := payload.Class(parse(t, `{"type":"x"}`), nil); got != "" {
		t.Errorf("no types: %q", got)
	}
}

func TestNamesProgram(t *testing.T) {
	t.Parallel()
	for object, want := range map[string]bool{
		`{}`: false, `{"message":1}`: false, `{"action":"x"}`: false, `{"timeout":1}`: false, `{"type":null}`: false,
		`{"command":7}`: true, `{"execution":""}`: true, `{"type":"x"}`: true, `{"task_type":""}`: true, `{"image":"x"}`: true, `{"gpus":1}`: true,
	} {
		if got := parse(t, object).NamesProgram(); got != want {
			t.Errorf("%s: %t", object, got)
		}
	}
}

func TestNoTypes(t *testing.T) {
	t.Parallel()
	err := payload.Resolve(parse(t, `{"type":"gepa"}`), nil, &task.Spec{Class: "cpu_short"})
	refused(t, "type", err, "no task types are configured: add [types.gepa] to the configuration")
}

// TestSlips tries names that are nearly right, and names that are not meant.
func TestSlips(t *testing.T) {
	t.Parallel()
	for key, meant := range map[string]string{
		"envs": "env", "Env": "env", "x": "", "imag": "image", "img": "", "iamge": "image", "mount": "mounts", "muonts": "mounts",
		"resource": "resources", "recources": "resources", "timeoutSeconds": "timeout_seconds", "timeout-seconds": "timeout_seconds", "timeout_secs": "timeout_seconds",
		"workingdir": "working_dir", "containerWorkdir": "container_workdir", "cwd": "working_dir", "gpus": "resources.gpu_count", "environment": "env",
		"labels": "", "name": "", "priority": "", "retries": "", "": "", "commandline": "",
	} {
		object, err := json.Marshal(map[string]any{"execution": map[string]any{"command": []string{"x"}, key: nil}})
		if err != nil {
			t.Fatal(err)
		}
		err = payload.Resolve(parse(t, string(object)), nil, &task.Spec{})
		switch {
		case meant == "" && err != nil:
			t.Errorf("%s: %v", key, err)
		case meant != "":
			refused(t, key, err, `"execution.`+key+`" is not a key of execution; write `+strconv.Quote(meant))
		}
	}
}

// TestTextOrObject checks that an execution means the same whether it came as an
// object or as text, by either way in.
func TestTextOrObject(t *testing.T) {
	t.Parallel()
	for _, group := range refusals {
		for _, tc := range group.list {
			if f, err := payload.Parse([]byte(tc.payload)); err == nil && f["execution"] != nil {
				sameEitherWay(t, string(f["execution"]))
			}
		}
	}
	sameEitherWay(t, `{"command":["x"],"env":{"A":"1"},"image":"i","mounts":[{"host_path":"/a","mount_path":"/b"}],"resources":{"gpu_count":1}}`)
	sameEitherWay(t, ` {"command":["<&>","é","\u2028"]} `)
}

func sameEitherWay(t *testing.T, execution string) {
	t.Helper()
	if !strings.HasPrefix(strings.TrimSpace(execution), "{") {
		return
	}
	text, err := json.Marshal(execution)
	if err != nil {
		t.Fatal(err)
	}
	var first task.Spec
	firstErr := payload.Resolve(payload.Fields{"execution": json.RawMessage(execution)}, nil, &first)
	for _, f := range []payload.Fields{{"execution": text}, payload.FromText(map[string]string{"execution": execution})} {
		var other task.Spec
		otherErr := payload.Resolve(f, nil, &other)
		if (firstErr == nil) != (otherErr == nil) || !reflect.DeepEqual(first, other) {
			t.Errorf("%s became\n%+v, %v as an object and\n%+v, %v as text", execution, first, firstErr, other, otherErr)
		}
		if firstErr != nil && otherErr != nil {
			if a, b := firstErr.Error(), otherErr.Error(); a != b {
				t.Errorf("%s is refused with\n%s as an object and\n%s as text", execution, a, b)
			}
		}
	}
}
