package payload_test

import (
	"errors"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/payload"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// refusal is a payload and the words with which it is refused, to the letter:
// docs/payloads.md lists them.
type refusal struct {
	class   string // cpu_short unless it says otherwise
	payload string
	answer  string
}

// types are the task types that the tests and the examples of docs/payloads.md
// know.
var types = payload.Types{
	"rl_sweep": {
		Argv: []string{"python", "-m", "rl.sweep"}, Class: "cpu_long", Dir: "/srv/rl", Env: []string{"WANDB_MODE=offline"},
		Timeout: time.Hour, Retries: 1, Resources: task.Resources{CPUMilli: 4000},
	},
	"report": {Argv: []string{"make", "report"}, Image: "lab/report:1"},
	"empty":  {},
}

var refusals = []struct {
	about string
	list  []refusal
}{
	{"Nothing to run", []refusal{
		{class: "cpu_long", payload: `{"message":"hello"}`,
			answer: `the payload names nothing to run; add "command", a list of words (json.dumps(["python", "train.py"])) or one shell line, or "execution", or "type", a configured task type`},
		{payload: `{"action":"start"}`,
			answer: `"action" alone names nothing to run; add "command", a list of words (json.dumps(["python", "train.py"])) or one shell line, or "execution", or "type", a configured task type`},
		{payload: `{"gpus":1}`,
			answer: `the payload names nothing to run; add "command", a list of words (json.dumps(["python", "train.py"])) or one shell line, or "execution", or "type", a configured task type`},
		{payload: `{"comand":"python train.py"}`,
			answer: `"comand" names nothing to run; did you mean "command"?`},
		{payload: `{"Type":"rl_sweep"}`,
			answer: `"Type" names nothing to run; did you mean "type"?`},
	}},
	{"`execution` itself", []refusal{
		{payload: `{"execution":"{'command': ['python', 'train.py']}"}`,
			answer: `"execution" looks like a Python value turned into text with str(); send json.dumps(value) instead`},
		{payload: `{"execution":"python train.py"}`,
			answer: `"execution" is "python train.py"; it must be a JSON object, or the text that json.dumps makes of one`},
		{payload: `{"execution":["python","train.py"]}`,
			answer: `"execution" is ["python","train.py"]; it must be a JSON object, or the text that json.dumps makes of one`},
		{payload: `{"execution":""}`,
			answer: `"execution" is ""; it must be a JSON object, or the text that json.dumps makes of one`},
	}},
	{"Keys of `execution`", []refusal{
		{payload: `{"execution":{"comand":["python","train.py"]}}`,
			answer: `"execution.comand" is not a key of execution; write "command"; known are command, image, env, mounts, resources, timeout_seconds, working_dir, container_workdir, network, image_entrypoint`},
		{payload: `{"execution":{"command":["python"],"args":["train.py"]}}`,
			answer: `"execution.args" is not a key of execution; write "command"; known are command, image, env, mounts, resources, timeout_seconds, working_dir, container_workdir, network, image_entrypoint`},
		{payload: `{"execution":{"command":["python"],"timeout":60}}`,
			answer: `"execution.timeout" is not a key of execution; write "timeout_seconds"; known are command, image, env, mounts, resources, timeout_seconds, working_dir, container_workdir, network, image_entrypoint`},
		{payload: `{"execution":{"command":["python"],"workingDir":"/home/me"}}`,
			answer: `"execution.workingDir" is not a key of execution; write "working_dir"; known are command, image, env, mounts, resources, timeout_seconds, working_dir, container_workdir, network, image_entrypoint`},
		{payload: `{"execution":{"command":["python"],"gpu_count":1}}`,
			answer: `"execution.gpu_count" is not a key of execution; write "resources.gpu_count"; known are command, image, env, mounts, resources, timeout_seconds, working_dir, container_workdir, network, image_entrypoint`},
	}},
	{"`command` of `execution`", []refusal{
		{payload: `{"execution":{}}`,
			answer: `"execution.command" is missing; list the program and its arguments: ["python", "train.py"]`},
		{payload: `{"execution":{"command":null,"image":"alpine"}}`,
			answer: `"execution.command" is missing; list the program and its arguments: ["python", "train.py"]`},
		{payload: `{"execution":{"command":"python train.py"}}`,
			answer: `"execution.command" is one text; list the words, ["python", "train.py"], or name the shell: ["sh", "-c", "..."]`},
		{payload: `{"execution":{"command":"['python', 'train.py']"}}`,
			answer: `"execution.command" looks like a Python value turned into text with str(); send json.dumps(value) instead`},
		{payload: `{"execution":{"command":[]}}`,
			answer: `"execution.command" names no program; list it and its arguments: ["python", "train.py"]`},
		{payload: `{"execution":{"command":["","train.py"]}}`,
			answer: `"execution.command" names no program; list it and its arguments: ["python", "train.py"]`},
		{payload: `{"execution":{"command":["python",1]}}`,
			answer: `"execution.command[1]" is 1; it must be text, in quotes`},
		{payload: `{"execution":{"command":["python",null]}}`,
			answer: `"execution.command[1]" is null; it must be text, in quotes`},
		{payload: `{"execution":{"command":["python","a\u0000b"]}}`,
			answer: `"execution.command[1]" has a NUL character; leave it out: nothing behind it would reach the program`},
		{payload: `{"execution":{"command":["python","\udcff.txt"]}}`,
			answer: `"execution.command[1]" has half of a surrogate pair, which is no character; give names that are UTF-8, and put other bytes into a file`},
		{payload: `{"execution":{"command":{"python":"train.py"}}}`,
			answer: `"execution.command" is {"python":"train.py"}; it must be a list of words, such as ["python", "train.py"]`},
	}},
	{"Image, directories and time limit of `execution`", []refusal{
		{payload: `{"execution":{"command":["python"],"image":["alpine"]}}`,
			answer: `"execution.image" is ["alpine"]; it must be text, in quotes`},
		{payload: `{"execution":{"command":["python"],"image":"alpine latest"}}`,
			answer: `"execution.image" is "alpine latest"; it must be the name of a container image, without spaces`},
		{payload: `{"execution":{"command":["python"],"image":"alpine\n"}}`,
			answer: `"execution.image" is "alpine\n"; it must be text without line ends and other control characters`},
		{payload: `{"execution":{"command":["python"],"working_dir":"project"}}`,
			answer: `"execution.working_dir" is "project"; it must be an absolute path, such as "/home/me/project"`},
		{payload: `{"execution":{"command":["python"],"image":"alpine","container_workdir":"/work/../etc"}}`,
			answer: `"execution.container_workdir" is "/work/../etc"; it must be an absolute path without "..", such as "/data/sets"`},
		{payload: `{"execution":{"command":["python"],"container_workdir":"/work"}}`,
			answer: `"execution.container_workdir" needs a container; add "image", name a class with one, or leave it out: without an image the program sees the host's paths`},
		{payload: `{"execution":{"command":["python"],"network":"services"}}`,
			answer: `"execution.network" needs a container; add "image", name a class with one, or leave it out: without an image the program sees the host's paths`},
		{payload: `{"execution":{"command":["python"],"timeout_seconds":"soon"}}`,
			answer: `"execution.timeout_seconds" is "soon"; it must be seconds (90) or a duration ("1h30m"), at most 366 days`},
		{payload: `{"execution":{"command":["python"],"timeout_seconds":-1}}`,
			answer: `"execution.timeout_seconds" is -1; it must be seconds (90) or a duration ("1h30m"), at most 366 days`},
	}},
	{"`env` of `execution`", []refusal{
		{payload: `{"execution":{"command":["python"],"env":["A=1"]}}`,
			answer: `"execution.env" is ["A=1"]; it must be a JSON object, or the text that json.dumps makes of one`},
		{payload: `{"execution":{"command":["python"],"env":{"1A":"x"}}}`,
			answer: `"execution.env.1A" is no name of an environment variable; use letters, digits and _, and begin with no digit`},
		{payload: `{"execution":{"command":["python"],"env":{"A=B":"x"}}}`,
			answer: `"execution.env.A=B" is no name of an environment variable; use letters, digits and _, and begin with no digit`},
		{payload: `{"execution":{"command":["python"],"env":{"A":true}}}`,
			answer: `"execution.env.A" is true; it must be text, in quotes`},
		{payload: `{"execution":{"command":["python"],"env":{"A":"x\u0000y"}}}`,
			answer: `"execution.env.A" has a NUL character; leave it out: nothing behind it would reach the program`},
		{payload: `{"execution":{"command":["python"],"env":{"DSPY_TASK_ID":"x"}}}`,
			answer: `"execution.env.DSPY_TASK_ID" is set by the scheduler; leave it out, or take another name`},
	}},
	{"`resources` of `execution`", []refusal{
		{payload: `{"execution":{"command":["python"],"resources":[1]}}`,
			answer: `"execution.resources" is [1]; it must be a JSON object, or the text that json.dumps makes of one`},
		{payload: `{"execution":{"command":["python"],"resources":{"gpus":2}}}`,
			answer: `"execution.resources.gpus" is not a key of execution.resources; write "gpu_count"; known are cpu_millicores, mem_bytes, gpu_count, gpu_memory_gb, gpu_class, mig`},
		{payload: `{"execution":{"command":["python"],"resources":{"gpu_cuont":2}}}`,
			answer: `"execution.resources.gpu_cuont" is not a key of execution.resources; write "gpu_count"; known are cpu_millicores, mem_bytes, gpu_count, gpu_memory_gb, gpu_class, mig`},
		{payload: `{"execution":{"command":["python"],"resources":{"cpu_millicores":1.5}}}`,
			answer: `"execution.resources.cpu_millicores" is 1.5; it must be a whole number from 0 to 1073741824`},
		{payload: `{"execution":{"command":["python"],"resources":{"cpu_millicores":-1}}}`,
			answer: `"execution.resources.cpu_millicores" is -1; it must be a whole number from 0 to 1073741824`},
		{payload: `{"execution":{"command":["python"],"resources":{"mem_bytes":"8 GB"}}}`,
			answer: `"execution.resources.mem_bytes" is "8 GB"; it must be a whole number from 0 to 1152921504606846976`},
		{payload: `{"execution":{"command":["python"],"resources":{"gpu_count":"nan"}}}`,
			answer: `"execution.resources.gpu_count" is "nan"; it must be a whole number from 0 to 1048576`},
		{payload: `{"execution":{"command":["python"],"resources":{"gpu_count":1e300}}}`,
			answer: `"execution.resources.gpu_count" is 1e300; it must be a whole number from 0 to 1048576`},
		{payload: `{"execution":{"command":["python"],"resources":{"gpu_count":true}}}`,
			answer: `"execution.resources.gpu_count" is true; it must be a whole number from 0 to 1048576`},
		{payload: `{"execution":{"command":["python"],"resources":{"gpu_memory_gb":-20}}}`,
			answer: `"execution.resources.gpu_memory_gb" is -20; it must be a number of GB (20), or text with a unit ("20GB", "512MiB"), at most 10000 GB`},
		{payload: `{"execution":{"command":["python"],"resources":{"gpu_memory_gb":21474836480}}}`,
			answer: `"execution.resources.gpu_memory_gb" is 21474836480; it must be a number of GB (20), or text with a unit ("20GB", "512MiB"), at most 10000 GB`},
		{payload: `{"execution":{"command":["python"],"resources":{"gpu_class":7}}}`,
			answer: `"execution.resources.gpu_class" is 7; it must be text, in quotes`},
	}},
	{"`mounts` of `execution`", []refusal{
		{payload: `{"execution":{"command":["python"],"image":"a","mounts":{"host_path":"/data"}}}`,
			answer: `"execution.mounts" is {"host_path":"/data"}; it must be a list of objects with host_path and mount_path`},
		{payload: `{"execution":{"command":["python"],"image":"a","mounts":["/data:/data"]}}`,
			answer: `"execution.mounts[0]" is "/data:/data"; it must be an object`},
		{payload: `{"execution":{"command":["python"],"image":"a","mounts":[{"host_path":"/data"}]}}`,
			answer: `"execution.mounts[0].mount_path" is missing; give an absolute path, such as "/data/sets"`},
		{payload: `{"execution":{"command":["python"],"image":"a","mounts":[{"source":"/data","target":"/data"}]}}`,
			answer: `"execution.mounts[0].source" is not a key of execution.mounts[0]; write "host_path"; known are host_path, mount_path, read_only`},
		{payload: `{"execution":{"command":["python"],"image":"a","mounts":[{"host_path":"data","mount_path":"/data"}]}}`,
			answer: `"execution.mounts[0].host_path" is "data"; it must be an absolute path without "..", such as "/data/sets"`},
		{payload: `{"execution":{"command":["python"],"image":"a","mounts":[{"host_path":"/data/../etc","mount_path":"/data"}]}}`,
			answer: `"execution.mounts[0].host_path" is "/data/../etc"; it must be an absolute path without "..", such as "/data/sets"`},
		{payload: `{"execution":{"command":["python"],"image":"a","mounts":[{"host_path":"/data","mount_path":"/"}]}}`,
			answer: `"execution.mounts[0].mount_path" is the root of the container; mount below it, such as at "/data"`},
		{payload: `{"execution":{"command":["python"],"image":"a","mounts":[{"host_path":"/a","mount_path":"/data"},{"host_path":"/b","mount_path":"/data/"}]}}`,
			answer: `"execution.mounts[1].mount_path" is that of another mount, too; give each mount a path of its own`},
		{payload: `{"execution":{"command":["python"],"image":"a","mounts":[{"host_path":"/a","mount_path":"/data","read_only":"yes"}]}}`,
			answer: `"execution.mounts[0].read_only" is "yes"; it must be true or false`},
		{payload: `{"execution":{"command":["python"],"image":"a","mounts":[{"host_path":"/a","mount_path":"/data","mode":"ro"}]}}`,
			answer: `"execution.mounts[0].mode" is not a key of execution.mounts[0]; write "read_only"; known are host_path, mount_path, read_only`},
		{payload: `{"execution":{"command":["python"],"mounts":[{"host_path":"/a","mount_path":"/data"}]}}`,
			answer: `"execution.mounts" needs a container; add "image", name a class with one, or leave it out: without an image the program sees the host's paths`},
	}},
	{"Beside `execution`", []refusal{
		{payload: `{"execution":{"command":["python"]},"tenant":7}`,
			answer: `"tenant" is 7; it must be text, in quotes`},
		{payload: `{"execution":{"command":["python"]},"workflow_id":"a\nb"}`,
			answer: `"workflow_id" is "a\nb"; it must be text without line ends and other control characters`},
		{payload: `{"execution":{"command":["python"]},"artifacts":["out"]}`,
			answer: `"artifacts" is ["out"]; it must be a JSON object, or the text that json.dumps makes of one`},
		{payload: `{"execution":{"command":["python"]},"artifacts":{"outputs":"out"}}`,
			answer: `"artifacts.outputs" is "out"; it must be a list of objects with path, type and name`},
		{payload: `{"execution":{"command":["python"]},"artifacts":{"outputs":["out"]}}`,
			answer: `"artifacts.outputs[0]" is "out"; it must be an object`},
		{payload: `{"execution":{"command":["python"]},"artifacts":{"outputs":[{"name":"model"}]}}`,
			answer: `"artifacts.outputs[0].path" is missing; say which file or folder the program writes`},
		{payload: `{"execution":{"command":["python"]},"artifacts":{"outputs":[{"path":"out","type":1}]}}`,
			answer: `"artifacts.outputs[0].type" is 1; it must be text, in quotes`},
	}},
	{"The flat keys", []refusal{
		{payload: `{"command":""}`,
			answer: `"command" is empty; give a list of words, such as ["python", "train.py"], or one shell line`},
		{payload: `{"command":[]}`,
			answer: `"command" names no program; list it and its arguments: ["python", "train.py"]`},
		{payload: `{"command":["python",1]}`,
			answer: `"command[1]" is 1; it must be text, in quotes`},
		{payload: `{"command":7}`,
			answer: `"command" is 7; it must be a list of words, such as ["python", "train.py"]`},
		{payload: `{"command":{"python":"train.py"}}`,
			answer: `"command" is {"python":"train.py"}; it must be a list of words, such as ["python", "train.py"]`},
		{payload: `{"command":"['python', 'train.py']"}`,
			answer: `"command" looks like a Python value turned into text with str(); send json.dumps(value) instead`},
		{payload: `{"command":"('python', 'train.py')"}`,
			answer: `"command" looks like a Python value turned into text with str(); send json.dumps(value) instead`},
		{payload: `{"command":"{'command': ['python']}"}`,
			answer: `"command" looks like a Python value turned into text with str(); send json.dumps(value) instead`},
		{payload: `{"command":"a\u0000b"}`,
			answer: `"command" has a NUL character; leave it out: nothing behind it would reach the program`},
		{payload: `{"command":"x","image":7}`,
			answer: `"image" is 7; it must be text, in quotes`},
		{payload: `{"command":"x","workdir":"project"}`,
			answer: `"workdir" is "project"; it must be an absolute path, such as "/home/me/project"`},
		{payload: `{"command":"x","workdir":7}`,
			answer: `"workdir" is 7; it must be text, in quotes`},
		{payload: `{"command":"x","timeout":"soon"}`,
			answer: `"timeout" is "soon"; it must be seconds (90) or a duration ("1h30m"), at most 366 days`},
		{payload: `{"command":"x","timeout":"-1s"}`,
			answer: `"timeout" is "-1s"; it must be seconds (90) or a duration ("1h30m"), at most 366 days`},
		{payload: `{"command":"x","timeout":1e300}`,
			answer: `"timeout" is 1e300; it must be seconds (90) or a duration ("1h30m"), at most 366 days`},
		{payload: `{"command":"x","timeout":true}`,
			answer: `"timeout" is true; it must be seconds (90) or a duration ("1h30m"), at most 366 days`},
		{payload: `{"command":"x","timeout":""}`,
			answer: `"timeout" is ""; it must be seconds (90) or a duration ("1h30m"), at most 366 days`},
		{payload: `{"command":"x","gpus":-1}`,
			answer: `"gpus" is -1; it must be a whole number from 0 to 1048576`},
		{payload: `{"command":"x","gpus":"two"}`,
			answer: `"gpus" is "two"; it must be a whole number from 0 to 1048576`},
		{payload: `{"command":"x","gpu_memory":"20 bananas"}`,
			answer: `"gpu_memory" is "20 bananas"; it must be a number of GB (20), or text with a unit ("20GB", "512MiB"), at most 10000 GB`},
	}},
	{"Task types", []refusal{
		{payload: `{"type":"gepa"}`,
			answer: `"type" is "gepa", which is no configured task type; known are empty, report, rl_sweep; for another add [types.gepa] to the configuration`},
		{payload: `{"task_type":"my type"}`,
			answer: `"task_type" is "my type", which is no configured task type; known are empty, report, rl_sweep; for another add [types."my type"] to the configuration`},
		{payload: `{"type":"empty"}`,
			answer: `"type" is "empty", which is configured without a program; add a command or an image to [types.empty] in the configuration`},
		{payload: `{"type":""}`,
			answer: `"type" is empty; name a task type, or leave the key out`},
		{payload: `{"type":7}`,
			answer: `"type" is 7; it must be text, in quotes`},
	}},
	{"What is no payload", []refusal{
		{payload: `[]`,
			answer: `the payload is not a JSON object: it is of the kind "array"`},
		{payload: `null`,
			answer: `the payload is not a JSON object: it is null`},
		{payload: `{"command":`,
			answer: `the payload is not a JSON object: unexpected end of JSON input`},
	}},
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, group := range refusals {
		for _, tc := range group.list {
			spec := &task.Spec{ID: "t", Class: tc.class}
			if tc.class == "" {
				spec.Class = "cpu_short"
			}
			f, err := payload.Parse([]byte(tc.payload))
			if err == nil {
				err = payload.Resolve(f, types, spec)
			}
			e, ok := errors.AsType[*task.Error](err)
			if !ok || e.Code != task.CodeInvalid || e.Message != tc.answer {
				t.Errorf("%s is refused with\n%v, want\n%s", tc.payload, err, tc.answer)
			}
			if spec.Argv != nil || spec.Builtin != "" || spec.Resources != (task.Resources{}) {
				t.Errorf("%s changed the spec: %+v", tc.payload, spec)
			}
		}
	}
}
