// Package gpupool is the GPUs of this machine that the queue's owner gives out.
//
// It owns what is remembered of them: the gpu.Book (health, drains, who held what)
// in a file beside the queue, one for each host; the locks by which the schedulers
// of several users keep off one another's GPUs; and what each task has used so far.
// It decides nothing about tasks: the engine tells it who holds what (Hold), asks
// it how things are (See), and claims devices before a lease is committed (Claim).
// The leases themselves are in the queue.
//
// It guarantees that a device that was claimed stays locked until no lease has it
// and its memory was seen to be free; that no call of the engine waits for the
// driver or for /proc; and that the engine is woken (Changed) when a newer look at
// the devices may change what can be placed.
//
// After a crash the book is read back, and so are the notes beside the locks, which
// were there before the leases: a device whose note names a task that holds nothing
// any more cools first. The locks themselves end with the process; the notes keep
// others off for as long as the task's process, or what starts it, is there.
package gpupool
