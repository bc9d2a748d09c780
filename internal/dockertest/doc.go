// Package dockertest is engines for tests of containers: real ones, of the test's
// own, that may be killed, slowed and filled without harm to the engine of the
// machine or to one another; images for them; and a registry to pull from.
//
// Start makes an Engine for one test, Shared one for all tests of a binary; what
// it is made of, and how it keeps apart, is in scripts/docker-testbed. An engine
// has a network of its own: what it publishes is reached by Engine.Dial, and what
// it is to reach has to Listen there. Proxy stands between it and a client, and
// cuts, slows or stops what they say. StandinImage is a program that does what its
// arguments say (standin/main.go lists them), ShellImage one with a shell, and
// ProgramImage any other program of this module. Engine.Run runs a container beside
// the product, Engine.Command a program beside the engine.
// Registry serves images to an engine: slowly, half of them, or only to those who
// know the password.
//
// It needs what scripts/setup-tests installs, and root. A test fails if a package
// is missing, and skips where the machine does not let it make an engine.
//
// It owns a folder per engine, and every process below that engine. They go with
// the test; those of Shared, and all of them when the test binary is killed, are
// removed by a process that waits for its end, within seconds.
package dockertest
