// Package config holds every setting of the product and its default, in one
// place, and reads the settings that are given: flags, environment, a file.
//
// One table (table.go, class.go, tasktype.go) has an entry per setting: its key
// in the file, the variable and the flag that set it too, its type and bounds,
// and what it means. Reading, "config show", the file that "config init" writes
// and docs/configuration.md all come from it, so a setting is added by adding an
// entry, a field of Config, and a default.
//
// It owns no state. What it sees of the outside world are the values passed in
// and the one file they lead to. It guarantees that a Config it returns is
// complete and consistent: paths are absolute, every class and task type is
// valid, and each value knows where it came from. What is wrong with the given
// settings is reported all at once, each with its key, its place and what to
// write instead; nothing that is wrong is passed over.
//
// The file is refused when somebody else could have written it, since it says
// which programs run (see file.go). There is nothing to recover after a crash.
package config
