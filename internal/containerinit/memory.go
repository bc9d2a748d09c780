package containerinit

import (
	"bytes"
	"os"
)

// memoryFiles tell how often the kernel has killed something in this container for lack of
// memory: of the second version of cgroups, and of the first.
var memoryFiles = []string{"/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"}

// ranOutOfMemory says whether it surely has. A container that is shown the cgroups of the
// whole machine cannot tell, and leaves it to its engine.
func ranOutOfMemory() bool {
	for _, file := range memoryFiles {
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range bytes.Lines(b) {
			if n, ok := bytes.CutPrefix(line, []byte("oom_kill ")); ok {
				return string(bytes.TrimSpace(n)) != "0"
			}
		}
	}
	return false
}
