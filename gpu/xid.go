package gpu

import "fmt"

// fault is what an XID says about a device, after NVIDIA's catalogue. Where its
// sources disagree, the one that spares the next task counts.
type fault int

const (
	faultUnknown   fault = iota // not in the catalogue we know
	faultProgram                // the program's own mistake, which the device survives
	faultContained              // memory lost a value; one program is hit, the device may go on
	faultLog                    // worth a line
	faultReset                  // only a reset of the device helps
	faultLink                   // the way to other GPUs
	faultGone                   // it fell off the bus
	faultRecovery               // the action that the device needs has changed
)

// faults is the catalogue; ranges are written out by span.
var faults = catalogue(map[fault][]span{
	faultProgram:   {{8, 8}, {11, 11}, {13, 13}, {25, 25}, {31, 32}, {39, 41}, {43, 43}, {45, 45}, {60, 60}, {68, 72}, {75, 77}, {80, 80}, {96, 105}, {126, 135}, {139, 139}},
	faultContained: {{94, 94}},
	faultLog:       {{37, 38}, {44, 44}, {63, 63}, {66, 67}, {92, 93}, {106, 107}, {121, 121}, {137, 137}, {141, 141}, {152, 153}, {157, 157}, {160, 161}},
	faultReset:     {{46, 46}, {48, 48}, {62, 62}, {64, 64}, {95, 95}, {109, 110}, {119, 120}, {136, 136}, {140, 140}, {143, 143}, {155, 156}, {158, 158}},
	faultLink:      {{74, 74}, {144, 150}},
	faultGone:      {{79, 79}},
	faultRecovery:  {{154, 154}},
})

type span struct{ first, last int }

func catalogue(spans map[fault][]span) map[int]fault {
	out := map[int]fault{}
	for f, list := range spans {
		for _, s := range list {
			for x := s.first; x <= s.last; x++ {
				out[x] = f
			}
		}
	}
	return out
}

// meanings are the XIDs that people meet, in their words.
var meanings = map[int]string{
	13:  "a fault in the program's code on the GPU",
	31:  "the program used GPU memory that it does not have",
	43:  "the program's work on the GPU was stopped",
	45:  "the program ended while it worked on the GPU",
	46:  "the GPU stopped working",
	48:  "memory lost a value",
	62:  "the GPU's own controller halted",
	63:  "a row of memory is to be replaced",
	64:  "a row of memory could not be replaced",
	74:  "an NVLink failed",
	79:  "it fell off the bus",
	94:  "memory lost a value, and only one program is hit",
	95:  "memory lost a value, and no program can be told safe",
	109: "switching between programs timed out",
	119: "the GPU's system processor does not answer",
	120: "the GPU's system processor failed",
	140: "memory lost a value that could not be repaired",
}

// XIDText is an XID for people: "XID 79: it fell off the bus".
func XIDText(xid int) string {
	if m := meanings[xid]; m != "" {
		return fmt.Sprintf("XID %d: %s", xid, m)
	}
	return fmt.Sprintf("XID %d", xid)
}

// XIDByProgram says whether an XID is the fault of the program that ran, and not
// of the device.
func XIDByProgram(xid int) bool { return faults[xid] == faultProgram }
