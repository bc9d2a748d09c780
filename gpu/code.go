package gpu

import (
	"fmt"
	"strconv"
	"strings"
)

// Code is an answer of the driver's library: the numbers of NVML's nvmlReturn_t.
// Texts differ between drivers, numbers do not.
type Code int

// The codes that decide something here.
const (
	Success            Code = 0
	Uninitialized      Code = 1
	NotSupported       Code = 3
	NoPermission       Code = 4
	NotFound           Code = 6
	DriverNotLoaded    Code = 9
	LibraryNotFound    Code = 12
	FunctionNotFound   Code = 13
	GPUIsLost          Code = 15
	ResetRequired      Code = 16
	LibRMVersionDiffer Code = 18
	GPUNotFound        Code = 28
	Unknown            Code = 999
)

// codeNames are NVML's own names, without NVML_ERROR_.
var codeNames = map[Code]string{
	Success: "SUCCESS", Uninitialized: "UNINITIALIZED", 2: "INVALID_ARGUMENT", NotSupported: "NOT_SUPPORTED",
	NoPermission: "NO_PERMISSION", 5: "ALREADY_INITIALIZED", NotFound: "NOT_FOUND", 7: "INSUFFICIENT_SIZE",
	8: "INSUFFICIENT_POWER", DriverNotLoaded: "DRIVER_NOT_LOADED", 10: "TIMEOUT", 11: "IRQ_ISSUE",
	LibraryNotFound: "LIBRARY_NOT_FOUND", FunctionNotFound: "FUNCTION_NOT_FOUND", 14: "CORRUPTED_INFOROM",
	GPUIsLost: "GPU_IS_LOST", ResetRequired: "RESET_REQUIRED", 17: "OPERATING_SYSTEM",
	LibRMVersionDiffer: "LIB_RM_VERSION_MISMATCH", 19: "IN_USE", 20: "MEMORY", 21: "NO_DATA",
	22: "VGPU_ECC_NOT_SUPPORTED", 23: "INSUFFICIENT_RESOURCES", 24: "FREQ_NOT_SUPPORTED",
	25: "ARGUMENT_VERSION_MISMATCH", 26: "DEPRECATED", 27: "NOT_READY", GPUNotFound: "GPU_NOT_FOUND",
	29: "INVALID_STATE", 30: "RESET_TYPE_NOT_SUPPORTED", Unknown: "UNKNOWN",
}

// String returns NVML's name, or "CODE_77" for one that is newer than this list.
func (c Code) String() string {
	if name, ok := codeNames[c]; ok {
		return name
	}
	return "CODE_" + strconv.Itoa(int(c))
}

// Lost says that the device itself is gone: it fell off the bus, or answers
// nothing any more until it is reset.
func (c Code) Lost() bool { return c == GPUIsLost || c == ResetRequired || c == GPUNotFound }

// Absent says that there is no such thing on this device or in this driver,
// which is no fault.
func (c Code) Absent() bool { return c == NotSupported || c == FunctionNotFound || c == NotFound }

// MarshalText writes the name.
func (c Code) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (c *Code) UnmarshalText(text []byte) error {
	for code, name := range codeNames {
		if name == string(text) {
			*c = code
			return nil
		}
	}
	digits, ok := strings.CutPrefix(string(text), "CODE_")
	n, err := strconv.Atoi(digits)
	if !ok || err != nil {
		return fmt.Errorf("%q is no answer of NVML", text)
	}
	*c = Code(n)
	return nil
}
