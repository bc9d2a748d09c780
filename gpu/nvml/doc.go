// Package nvml asks NVIDIA's driver, through its library NVML, and answers in the
// words of package gpu.
//
// It owns the only cgo of the project, and so is imported by gpu-probe alone: a
// call of the driver may hang for ever, and nothing in a process can end it. It
// guarantees that a function the driver lacks, a device that is lost and a field
// that is refused each cost themselves and nothing else; and it only reads: it
// sets no mode, resets nothing, and needs no rights.
//
// One process maps one library, once, and starts it once. Whatever changes that
// (a driver that was loaded later, or upgraded) is found by the next process.
// There is nothing to recover after a crash.
//
// Without cgo, or on a system that has no NVML, Open says LIBRARY_NOT_FOUND.
package nvml
