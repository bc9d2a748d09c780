// Package gputest is a machine with NVIDIA GPUs, for tests on machines without: a
// stand-in for the driver's library libnvidia-ml.so.1, which the real loader
// loads, and whose GPUs, processes, errors and delays are a file that a test may
// rewrite at any time.
//
// It owns a temporary directory per test binary, with what was built from
// gpu/nvml/testdata; Main removes it. It needs gcc, as the race detector does; on
// a machine without, these tests skip and say so.
package gputest
