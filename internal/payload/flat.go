package payload

import "github.com/dspy-agent/dspy-agent/internal/task"

// flat reads the form whose keys stand in the payload itself. What is boxed runs what its image
// says, if it names no program.
func flat(f Fields, boxed bool) (*task.Spec, error) {
	o := top(f)
	s, err := flatKeys(o)
	if err == nil && len(s.Argv) == 0 && s.Image == "" && !boxed {
		return nil, namesNothing(f) // GPUs for no program
	}
	return s, err
}

// flatKeys reads them, whether they name a program or not.
func flatKeys(o *object) (*task.Spec, error) {
	s := &task.Spec{Image: o.image(keyImage), Dir: o.dir(keyWorkdir), Timeout: o.duration(keyTimeout)}
	s.Resources.GPUs = int(o.whole(keyGPUs, task.MaxGPUs))
	s.Resources.GPUMem = o.gpuMemory(keyGPUMemory)
	s.Resources.GPUModel = o.label(keyGPUModel, task.MaxNameBytes)
	s.Resources.MIG = o.label(keyMIG, task.MaxNameBytes)
	if o.fields.has(keyCommand) {
		s.Argv = o.command(keyCommand)
	}
	return s, o.err()
}
