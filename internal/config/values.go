package config

import (
	"encoding/json"
	"slices"
	"strings"
)

// Value is an effective setting.
type Value struct {
	Key     string
	Literal string // as the file has it
	Plain   any    // for JSON: a text, number, boolean or list
	Zero    string // what the value stands for, if it is 0, "" or an empty list
	Later   string // see Setting.Later
	Source  Source
}

// Text is the value for people: a text without its quotes, unless it has
// characters that cannot be printed.
func (v Value) Text() string {
	if s, ok := strings.CutPrefix(v.Literal, `"`); ok && !strings.Contains(s, `\`) {
		return strings.TrimSuffix(s, `"`)
	}
	return v.Literal
}

// MarshalJSON writes the plain value.
func (v Value) MarshalJSON() ([]byte, error) { return json.Marshal(v.Plain) }

// Values lists what holds, in the order of the table: every setting, every class
// with its keys, every task type and service with those that are set. Values of variables
// that look like secrets by their names are replaced.
func (c Config) Values() []Value {
	var out []Value
	for _, f := range configFields {
		out = append(out, effective(c, f, &c, f.Key))
	}
	for _, name := range c.ClassNames() {
		k := c.Classes[name]
		for _, f := range classFields {
			if (k.AliasOf != "") == (f.Key == keyAliasOf) {
				out = append(out, effective(c, f, &k, classKey(name, f.Key)))
			}
		}
	}
	for _, name := range c.TypeNames() {
		t := c.Types[name]
		for _, f := range typeFields {
			if !f.zero(&t) {
				out = append(out, effective(c, f, &t, typeKey(name, f.Key)))
			}
		}
		for _, kv := range t.Env {
			out = append(out, c.variable(tableTypes, name, kv))
		}
	}
	for _, name := range c.ServiceNames() {
		out = append(out, c.serviceValues(name)...)
	}
	return out
}

// serviceValues lists what was said about a service.
func (c Config) serviceValues(name string) []Value {
	var out []Value
	s := c.Services[name]
	for _, f := range serviceFields {
		if key := ServiceKey(name, f.Key); c.IsGiven(key) {
			out = append(out, effective(c, f, &s, key))
		}
	}
	for _, kv := range s.Env {
		out = append(out, c.variable(tableServices, name, kv))
	}
	return out
}

func effective[R any](c Config, f field[R], r *R, key string) Value {
	v := Value{Key: key, Literal: f.literal(r), Plain: f.plain(r), Later: f.Later, Source: c.Source(key)}
	if f.zero(r) {
		v.Zero = f.Zero
	}
	return v
}

// variable is one of a task type's or service's, without what must not be seen.
func (c Config) variable(table, of, kv string) Value {
	name, text, _ := strings.Cut(kv, "=")
	key := keyText([]string{table, of, keyEnv, name})
	if secret(name) {
		text = "(hidden)"
	}
	return Value{Key: key, Literal: quote(text), Plain: text, Source: c.Source(key)}
}

// secret says whether a variable is one that holds a secret by convention.
func secret(name string) bool {
	name = strings.ToUpper(name)
	return slices.ContainsFunc([]string{"TOKEN", "SECRET", "PASSWORD", "PASSWD", "_KEY", "APIKEY", "CREDENTIAL"}, func(part string) bool {
		return strings.Contains(name, part)
	})
}
