// Package backendtest holds what every backend has to pass, and a backend for
// the tests of others.
//
// Exercise is the suite: it hands tasks to a backend, follows them as an engine
// would, and takes the daemon away in between. Every report goes through
// task.Apply, so a backend that skips an edge or reports an end twice with
// different words fails, whatever the single test looks for. exercise.go lists the
// cases; the files beside it hold them, by what they are about: outcomes.go,
// files.go, ending.go and escape.go (one task), races.go, repeats.go (each step
// twice), restarts.go and adoption.go (the daemon killed in every state).
//
// Fake is a backend in memory whose tasks do what their payload says and whose
// faults are arranged by the test. It uses only timers, so it works in a
// testing/synctest bubble.
//
// The package declares the interface that it tests itself, and so imports
// neither those who call backends nor those who are one. It owns nothing that
// outlives a test.
package backendtest
