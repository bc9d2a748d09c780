// Package template makes jobs of templates: batch scripts in a folder of the owner's,
// chosen by what a task's payload says, or by its class.
//
// There are two kinds. A script is one that people have, with #SBATCH lines, and ${NAME} or
// ${NAME:-default} where a value of the payload belongs. NAME.tmpl is a Go template that
// makes such a script, out of what the scheduler knows as numbers and as configured words:
// nothing that a submitter wrote is within its reach.
//
// # What it guarantees
//
// The commands of a script and the names of its directives are the owner's, whatever a
// payload has in it. A value goes into a #SBATCH line only as (part of) the value of an
// option, which then has to be of the alphabet of internal/directive; the line is taken
// apart before the value is put in. In what bash reads nothing is put in at all: values are
// environment variables, and only those that the script mentions, and none by which a shell
// or a loader finds programs.
//
// It owns nothing, and reads the folder only. There is nothing to recover after a crash.
package template
