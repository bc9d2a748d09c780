package slurm

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// faultText says why the script of a job could not begin the task: by what it was given
// to read, since a template may have put another program and folder there.
func (j *job) faultText() string {
	switch j.record.Fault {
	case "folder":
		return fmt.Sprintf("its folder%s is not there on %s", named(j.dir.words(cwdFile)), j.record.Node)
	case "command":
		argv := j.dir.words(argvFile)
		text := fmt.Sprintf("command not found on %s:%s", j.record.Node, named(argv))
		if slices.Contains(argv[min(1, len(argv)):], j.dir.path(bodyFile)) {
			text += ", which the first line of its template names"
		}
		return text
	case "setup":
		return "the setup lines of its class failed; the output says how"
	default:
		return "it could not be begun: " + j.record.Fault
	}
}

// named is the first word of a list, if there is one to name.
func named(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return " " + words[0]
}

// words are those of a list that the job reads; none when it cannot be read.
func (f folder) words(name string) []string {
	b, err := os.ReadFile(f.path(name))
	if err != nil || len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
}
