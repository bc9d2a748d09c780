//go:build linux && cgo && (amd64 || arm64)

package nvml

// #cgo CFLAGS: -O2
// #cgo LDFLAGS: -ldl
// #include <stdlib.h>
// #include "dispatch.h"
import "C"

import (
	"unsafe"

	nv "github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/dspy-agent/dspy-agent/gpu"
)

// candidates are where the library is looked for: by the dynamic linker's rules,
// and then where systems keep it that do not tell the linker.
var candidates = []string{
	"libnvidia-ml.so.1",
	"/usr/lib/wsl/lib/libnvidia-ml.so.1",                  // Windows' Linux
	"/run/opengl-driver/lib/libnvidia-ml.so.1",            // NixOS
	"/usr/lib64/nvidia/libnvidia-ml.so.1",                 // older Red Hats
	"/usr/lib/nvidia-current/libnvidia-ml.so.1",           // Debian's alternatives
	"/home/kubernetes/bin/nvidia/lib64/libnvidia-ml.so.1", // Google's container system
}

// library maps the driver's library, at path or at the first candidate that is
// there, and starts it.
func library(path string) (nv.Interface, gpu.Driver) {
	paths := candidates
	if path != "" {
		paths = []string{path}
	}
	d := gpu.Driver{Code: gpu.LibraryNotFound}
	for _, p := range paths {
		problem := open(p)
		if problem == "" {
			d.Library = C.GoString(C.dspy_nvml_path())
			break
		}
		if d.Problem == "" {
			d.Problem = problem
		}
	}
	if d.Library == "" {
		return nil, d
	}
	// The same file again, which costs nothing: go-nvml looks in it for the newest
	// version of each function.
	lib := nv.New(nv.WithLibraryPath(d.Library))
	d.Code, d.Problem = gpu.Code(lib.Init()), ""
	return lib, d
}

func open(path string) (problem string) {
	p := C.CString(path)
	defer C.free(unsafe.Pointer(p))
	if why := C.dspy_nvml_open(p); why != nil {
		return C.GoString(why)
	}
	return ""
}
