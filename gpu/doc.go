// Package gpu is what is known about GPUs, and the rules for giving them out.
//
// It owns the words: a Device (a whole GPU, or a MIG instance of one), the
// processes on it, a Snapshot of all devices at one moment, a Request, a Lease.
// And it owns the rules, each a function over these values: which devices a
// request gets (Allocate), which are in use by somebody else (Usage), which are
// not to be trusted any more and when they are again (Health), and the sentence
// that says why a request waits (Why).
//
// It is pure: no cgo, no clock, no I/O, no goroutine; the time comes in as a
// value, and the same values give the same answer. So it holds nothing that a
// crash could take: the snapshot comes from the driver (gpu/nvml, in the child
// gpu-probe), the leases from the queue.
//
// Three things hold throughout. A device's UUID is its identity; indexes are for
// people. What the driver did not say is nil, or has its own word, and is never
// a zero. And a device that cannot be read says so, and blinds nobody to the
// others.
package gpu
