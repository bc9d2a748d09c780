// Package engine is the only mover of tasks: it takes what callers, backends and
// time bring, asks a scheduler.Planner what starts, and commits every step through the
// store before anything happens outside.
//
// It owns the loop, recovery, and the order of things: intent on disk, then the
// external step, then its result on disk. It declares what it needs of others:
// Store, Backend, Clock.
//
// It guarantees that a task is handed to a backend only after its placement is on
// disk; that a backend is told to forget an end only after that end is on disk;
// and that leaving (Run returns) stops no workload.
//
// After a crash, Run reads the active tasks from the store, lets each backend
// report where they stand, hands over again what was only Assigned, and repeats
// the stop of what is Stopping. Nothing else has to be remembered.
package engine
