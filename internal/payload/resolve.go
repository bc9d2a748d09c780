package payload

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// The keys of a payload that say what to run and how.
const (
	keyExecution = "execution"
	keyCommand   = "command"
	keyImage     = "image"
	keyWorkdir   = "workdir"
	keyGPUs      = "gpus"
	keyGPUMemory = "gpu_memory"
	keyGPUModel  = "gpu_model"
	keyMIG       = "mig"
	keyTimeout   = "timeout"
	keyType      = "type"
	keyTaskType  = "task_type"
	keyAction    = "action"
)

// echoClass is the class in which a payload that names nothing to run is echoed.
const echoClass = "cpu_short"

// form is one of the ways in which a payload says what to run.
type form uint8

const (
	formNone form = iota
	formExecution
	formFlat
	formType
)

// formOf returns the form that decides, in the order of the contract. An image
// alone runs what the image says, and beside a type it is the program's.
func formOf(f Fields) form {
	alone := f.has(keyGPUs) || f.has(keyGPUMemory)
	if s, ok := f.text(keyImage); f.has(keyImage) && (!ok || s != "") {
		alone = true
	}
	switch {
	case f.has(keyExecution):
		return formExecution
	case f.has(keyCommand):
		return formFlat
	case typeKey(f) != "":
		return formType
	case alone:
		return formFlat
	default:
		return formNone
	}
}

// NamesProgram says whether the payload means to say what to run, rightly or
// not.
func (f Fields) NamesProgram() bool { return formOf(f) != formNone }

// Class returns the class that the payload's task type asks for; "" when it
// names no type, or one without a class. It counts where the submission itself
// names no class.
func Class(f Fields, types Types) string {
	if formOf(f) != formType {
		return ""
	}
	name, _ := f.text(typeKey(f))
	return types[name].Class
}

// Resolve fills in what the payload says about the program: Builtin or Argv, and
// where the spec does not say it itself its image, mounts, directories,
// environment, resources, time limit, retries, tenant and workflow. The spec's
// class must be the resolved one. What can never work is refused with
// CodeInvalid, and leaves the spec as it is. What this release cannot run yet is
// filled in all the same: to refuse it is for whoever admits the task.
func Resolve(f Fields, types Types, spec *task.Spec) error {
	return ResolveIn(f, types, spec, "")
}

// ResolveIn is Resolve for a class whose tasks run in an image unless they name another.
func ResolveIn(f Fields, types Types, spec *task.Spec, image string) error {
	asked, err := read(f, types, spec.Class, image != "" || spec.Image != "")
	if err != nil {
		return err
	}
	fill(spec, asked)
	if spec.Builtin == "" {
		spec.Image = cmp.Or(spec.Image, image)
	}
	return nil
}

// ResolveTemplate is Resolve for a task that becomes a job by a template. A payload that
// names no command leaves it to that, and its image is one of the values that the
// template may use: it is for no container of ours.
func ResolveTemplate(f Fields, types Types, spec *task.Spec) error {
	asked, err := readTemplate(f, types)
	if err != nil {
		return err
	}
	fill(spec, asked)
	return nil
}

func readTemplate(f Fields, types Types) (*task.Spec, error) {
	switch {
	case f.has(keyExecution):
		s, err := execution(f, false)
		switch {
		case err != nil:
			return nil, err
		case s.Image != "":
			return nil, refuse(keyExecution+"."+keyImage, "is for containers of this scheduler, and the task runs by a template", `give "image" beside "execution", for a template that uses it`)
		}
		return s, nil
	case f.has(keyCommand):
	case typeKey(f) != "":
		return typed(f, types)
	default:
		if err := misspelt(f); err != nil {
			return nil, err
		}
	}
	s, err := flatKeys(top(f))
	if err != nil {
		return nil, err
	}
	s.Image = ""
	if len(s.Argv) == 0 {
		s.Builtin = task.BuiltinTemplate
	}
	return s, nil
}

// read returns what the deciding form asks for, as the parts of a spec. A task that is
// boxed runs in a container, whether its payload names an image or not.
func read(f Fields, types Types, class string, boxed bool) (*task.Spec, error) {
	switch formOf(f) {
	case formExecution:
		return execution(f, boxed)
	case formFlat:
		return flat(f, boxed)
	case formType:
		return typed(f, types)
	case formNone:
		if err := misspelt(f); err != nil {
			return nil, err
		}
		if class != echoClass || f.has(keyAction) {
			return nil, namesNothing(f)
		}
	}
	return &task.Spec{Builtin: task.BuiltinEcho}, nil
}

// misspelt refuses a payload that would be echoed for a slip in the key that
// says what to run.
func misspelt(f Fields) error {
	for _, key := range slices.Sorted(maps.Keys(f)) {
		meant := cmp.Or(nearest(key, []string{keyCommand, keyExecution, keyTaskType}, 1), nearest(key, []string{keyType}, 0))
		if meant != "" && f.has(key) {
			return refuse(key, "names nothing to run", fmt.Sprintf("did you mean %q?", meant))
		}
	}
	return nil
}

// namesNothing says what to add to a payload.
func namesNothing(f Fields) error {
	const add = `add "command", a list of words (json.dumps(["python", "train.py"])) or one shell line, or "execution", or "type", a configured task type`
	if f.has(keyAction) {
		return refuse(keyAction, "alone names nothing to run", add)
	}
	return task.Errorf(task.CodeInvalid, "the payload names nothing to run; %s", add)
}

// fill puts what was asked into the spec, below what the spec says itself.
func fill(spec, asked *task.Spec) {
	spec.Builtin, spec.Argv = asked.Builtin, slices.Clone(asked.Argv)
	spec.Image = cmp.Or(spec.Image, asked.Image)
	if len(spec.Mounts) == 0 {
		spec.Mounts = asked.Mounts
	}
	spec.Dir = cmp.Or(spec.Dir, asked.Dir)
	spec.ContainerDir = cmp.Or(spec.ContainerDir, asked.ContainerDir)
	spec.Network = cmp.Or(spec.Network, asked.Network)
	spec.ImageEntrypoint = spec.ImageEntrypoint || asked.ImageEntrypoint
	spec.Env = mergeEnv(spec.Env, asked.Env)
	spec.Timeout = cmp.Or(spec.Timeout, asked.Timeout)
	spec.Retries = cmp.Or(spec.Retries, asked.Retries)
	spec.Tenant = cmp.Or(spec.Tenant, asked.Tenant)
	spec.WorkflowID = cmp.Or(spec.WorkflowID, asked.WorkflowID)
	to, from := &spec.Resources, asked.Resources
	to.CPUMilli = cmp.Or(to.CPUMilli, from.CPUMilli)
	to.MemBytes = cmp.Or(to.MemBytes, from.MemBytes)
	to.GPUs = cmp.Or(to.GPUs, from.GPUs)
	to.GPUMem = cmp.Or(to.GPUMem, from.GPUMem)
	to.GPUModel = cmp.Or(to.GPUModel, from.GPUModel)
	to.MIG = cmp.Or(to.MIG, from.MIG)
}
