package process

import (
	"cmp"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/host"
)

// A spool is the directory of one journal: that of a queue, on one machine,
// since one boot, in one pid namespace. Its name says so: MACHINE-BOOT, and -PIDS
// where the namespace is not the machine's own. Earlier versions wrote the host
// name for MACHINE.
var spoolName = regexp.MustCompile(`^(.+)-([0-9a-f]{8})(?:-([0-9]+))?$`)

// machineDigits is how much of the machine's id is in the name.
const machineDigits = 12

func shortMachine(id host.Identity) string { return id.Machine[:min(machineDigits, len(id.Machine))] }

func shortBoot(id host.Identity) string { return id.Boot[:min(8, len(id.Boot))] }

// spoolSuffix is what tells the spools of one machine from one another.
func spoolSuffix(id host.Identity) string {
	if id.SeesAll() || id.PIDs == 0 {
		return shortBoot(id)
	}
	return shortBoot(id) + "-" + strconv.FormatUint(id.PIDs, 10)
}

// spools returns the spool of the present boot below dir, whether or not it
// exists, and those of earlier boots and of other namespaces of this machine.
//
// What names the machine may change while it is up, so a spool of this boot and
// namespace is taken whatever else its name says.
func spools(dir string, id host.Identity) (present string, former []string) {
	entries, _ := os.ReadDir(dir) // without any there is nothing to find
	own := shortMachine(id) + "-" + spoolSuffix(id)
	version1 := id.Name + "-" + shortBoot(id)
	var renamed, old string
	var others []string
	for _, e := range entries {
		name := e.Name()
		m := spoolName.FindStringSubmatch(name)
		switch {
		case m == nil || !e.IsDir():
		case name == own:
			present = own
		case strings.HasSuffix(name, "-"+spoolSuffix(id)):
			renamed = name
		case name == version1:
			old = name
		case m[1] == shortMachine(id) || m[1] == id.Name || m[2] == shortBoot(id):
			others = append(others, filepath.Join(dir, name))
		}
	}
	present = cmp.Or(present, renamed, old, own)
	for _, name := range []string{renamed, old} {
		if name != "" && name != present {
			others = append(others, filepath.Join(dir, name))
		}
	}
	return filepath.Join(dir, present), others
}
