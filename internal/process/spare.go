package process

import (
	"runtime"
	"sync"
)

// A Go program that cannot have one more thread ends at once, and a task that forks
// until its user may have no more processes brings everybody of that user there,
// its supervisor included, which alone can end it. So the supervisor has its threads
// before it has tasks. The runtime keeps what it has once had.

// spareThreads is how many: the runners of a queue, and twice as many as all
// else was seen to need at a time.
const spareThreads = runnersKept + 20

// makeThreads has the runtime make so many threads.
func makeThreads(n int) {
	var all, wg sync.WaitGroup
	all.Add(n)
	for range n {
		wg.Go(func() {
			runtime.LockOSThread() // nobody else's until all are there
			defer runtime.UnlockOSThread()
			all.Done()
			all.Wait()
		})
	}
	wg.Wait()
}
