package config

import "reflect"

// Setting describes one key, for people.
type Setting struct {
	Key     string // "retention.task_age", "classes.NAME.limit"
	Type    string // such as "duration"
	Allowed string // how it is written, as in "write ..."; "" when the type says it
	Meaning string // what it does, with its unit
	Zero    string // what 0, "" or an empty list stands for; "" = itself
	Example string // a value as the file has it, other than the default
	Default string // as the file has it; relative paths are the workspace's
	// Env are the variables that set it too; of several that are set the first counts.
	Env  []string
	Flag string // that sets it too, without dashes
	// Outside says why the key cannot be in the file; "" = it can.
	Outside string
	// Later says that nothing uses the value in this release, and which part will.
	Later string
}

// field is the entry of a setting in the table: the description, and how to
// reach its value in a record R: the Config, a Class, a TaskType, a Service.
type field[R any] struct {
	Setting
	// read sets it to v, or returns how v should have been written.
	read func(r *R, v value, b base) (complaint string)
	// literal is the value as the file has it.
	literal func(r *R) string
	plain   func(r *R) any // for JSON
	zero    func(r *R) bool
}

// at makes the entry of the setting key, of a type and with its place in the
// record.
func at[R, T any](key string, t typ[T], place func(*R) *T, s Setting) field[R] {
	s.Key, s.Type, s.Allowed = key, t.name, t.allowed
	return field[R]{
		Setting: s,
		read: func(r *R, v value, b base) string {
			got, ok := t.read(v, b)
			if !ok {
				return "write " + t.allowed
			}
			*place(r) = got
			return ""
		},
		literal: func(r *R) string { return t.literal(*place(r)) },
		plain:   func(r *R) any { return t.plain(*place(r)) },
		zero: func(r *R) bool {
			v := reflect.ValueOf(*place(r))
			return v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0
		},
	}
}

// Settings describes every setting, in the order of the table, for the
// documentation. Classes, task types and services are there once, under "NAME".
func Settings() []Setting {
	var out []Setting
	d := Default("")
	for _, f := range configFields {
		s := f.Setting
		s.Default = f.literal(&d)
		out = append(out, s)
	}
	class := newClass("NAME")
	for _, f := range classFields {
		s := f.Setting
		s.Key, s.Default = classKey("NAME", s.Key), f.literal(&class)
		out = append(out, s)
	}
	for _, f := range typeFields {
		s := f.Setting
		s.Key, s.Default = typeKey("NAME", s.Key), f.literal(&TaskType{})
		out = append(out, s)
	}
	s := envSetting
	s.Key, s.Default = typeKey("NAME", s.Key), "{}"
	out = append(out, s)
	for _, s := range serviceSettings() {
		s.Key = ServiceKey("NAME", s.Key)
		out = append(out, s)
	}
	return out
}

// The tables whose names a site chooses.
const (
	tableClasses  = "classes"
	tableTypes    = "types"
	tableServices = "services"
)

func classKey(name, key string) string { return tableClasses + "." + name + "." + key }

func typeKey(name, key string) string { return tableTypes + "." + name + "." + key }
