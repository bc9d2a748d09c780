package payload

import "github.com/dspy-agent/dspy-agent/internal/task"

// resourceKeys are the keys of the resources of an execution.
var resourceKeys = keys{
	known: []string{"cpu_millicores", "mem_bytes", "gpu_count", "gpu_memory_gb", "gpu_class", "mig"},
	meant: map[string]string{
		"cpu": "cpu_millicores", "cpus": "cpu_millicores", "memory": "mem_bytes", "mem": "mem_bytes", "memory_bytes": "mem_bytes",
		"gpu": "gpu_count", "gpus": "gpu_count", "gpu_memory": "gpu_memory_gb", "gpu_model": "gpu_class", "gpu_type": "gpu_class", "mig_profile": "mig",
	},
}

// resources reads what one attempt needs.
func (o *object) resources(key string) task.Resources {
	r := o.inner(key)
	r.refuseTypos(resourceKeys)
	return task.Resources{
		CPUMilli: r.whole("cpu_millicores", task.MaxCPUMilli),
		MemBytes: r.whole("mem_bytes", task.MaxMemBytes),
		GPUs:     int(r.whole("gpu_count", task.MaxGPUs)),
		GPUMem:   r.gpuMemory("gpu_memory_gb"),
		GPUModel: r.label("gpu_class", task.MaxNameBytes),
		MIG:      r.label("mig", task.MaxNameBytes),
	}
}
