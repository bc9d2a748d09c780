package gpu

import (
	"slices"
	"strconv"
	"strings"
)

// Visible is the value of CUDA_VISIBLE_DEVICES for a program that was given these
// devices, under CUDA_DEVICE_ORDER=PCI_BUS_ID: their numbers, or with byUUID, and
// where one has no number, their UUIDs.
func Visible(devices []*Device, byUUID bool) string {
	byUUID = byUUID || slices.ContainsFunc(devices, func(d *Device) bool { return d.CUDAIndex < 0 || d.Kind == MIG })
	names := make([]string, len(devices))
	for i, d := range devices {
		if names[i] = strconv.Itoa(d.CUDAIndex); byUUID {
			names[i] = string(d.ID)
		}
	}
	return strings.Join(names, ",")
}

// Numbered says whether CUDA's numbers are to be relied on: they are the ranks of
// all GPUs that CUDA finds, which nobody knows for sure where one is lost; and where
// one is cut into instances, programs need UUIDs.
func (s *Snapshot) Numbered() bool {
	if len(s.Unreadable) > 0 {
		return false
	}
	return !slices.ContainsFunc(s.Devices, func(d Device) bool { return d.Kind != Whole || d.MIGMode != nil && *d.MIGMode || d.Lost() != Success })
}
