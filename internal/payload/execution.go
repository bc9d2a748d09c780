package payload

import "github.com/dspy-agent/dspy-agent/internal/task"

// executionKeys are the keys of an execution.
var executionKeys = keys{
	known: []string{"command", "image", "env", "mounts", "resources", "timeout_seconds", "working_dir", "container_workdir", "network", "image_entrypoint"},
	meant: map[string]string{
		"args": "command", "arguments": "command", "environment": "env", "volumes": "mounts",
		"workdir": "working_dir", "cwd": "working_dir", "timeout": "timeout_seconds", "timeout_sec": "timeout_seconds", "timeout_secs": "timeout_seconds",
		"network_mode": "network", "gpus": "resources.gpu_count", "gpu_count": "resources.gpu_count",
		"gpu_memory": "resources.gpu_memory_gb", "gpu_memory_gb": "resources.gpu_memory_gb", "gpu_class": "resources.gpu_class",
		"cpu_millicores": "resources.cpu_millicores", "mem_bytes": "resources.mem_bytes",
	},
}

// execution reads the form that says everything in one object, and what belongs
// beside it.
func execution(f Fields, boxed bool) (*task.Spec, error) {
	o := top(f)
	x := o.inner(keyExecution)
	x.refuseTypos(executionKeys)
	s := &task.Spec{
		Argv: x.argv(), Image: x.image("image"), Env: x.environment("env"),
		Mounts: x.mounts("mounts"), Resources: x.resources("resources"),
		Timeout: x.duration("timeout_seconds"), Dir: x.dir("working_dir"), ContainerDir: x.cleanPath("container_workdir"),
		Network: x.label("network", task.MaxNameBytes), ImageEntrypoint: x.flag("image_entrypoint"),
		Tenant: o.label("tenant", task.MaxNameBytes), WorkflowID: o.label("workflow_id", task.MaxNameBytes),
	}
	if s.Image == "" && !boxed {
		x.containerOnly("mounts", len(s.Mounts) > 0)
		x.containerOnly("container_workdir", s.ContainerDir != "")
		x.containerOnly("network", s.Network != "")
		x.containerOnly("image_entrypoint", s.ImageEntrypoint)
	}
	o.artifacts()
	return s, o.err()
}

// argv reads the command of an execution, which is a list and never a shell
// line.
func (o *object) argv() []string {
	const key = "command"
	if !o.fields.has(key) {
		o.fail(key, "is missing", "list the program and its arguments: "+exampleWords)
		return nil
	}
	o = o.listedAsText(key)
	if line, ok := o.fields.text(key); ok {
		if pythonRepr(line) {
			o.keep(refuseRepr(o.name(key)))
		}
		o.fail(key, "is one text", "list the words, "+exampleWords+", or name the shell: [\"sh\", \"-c\", \"...\"]")
		return nil
	}
	return o.words(key)
}

// containerOnly refuses what only a container can give: the program would look
// for it in vain.
func (o *object) containerOnly(key string, given bool) {
	if given {
		o.fail(key, "needs a container", "add \"image\", name a class with one, or leave it out: without an image the program sees the host's paths")
	}
}
