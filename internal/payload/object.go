package payload

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
)

// object reads one JSON object of a payload, key by key. Its readers return the
// zero value for a key that is not there or null, and keep the first thing that
// was wrong, so that a form is written as the list of what it reads.
type object struct {
	at     string // where it stands in the payload; "" is the payload itself
	fields Fields
	first  *error // shared with the objects inside
}

// top reads the payload itself.
func top(f Fields) *object { return &object{fields: f, first: new(error)} }

// err returns the first thing that was wrong.
func (o *object) err() error { return *o.first }

func (o *object) keep(err error) {
	if *o.first == nil {
		*o.first = err
	}
}

// name says where a key stands in the payload: "execution.resources.gpu_count".
func (o *object) name(key string) string {
	if o.at == "" {
		return key
	}
	return o.at + "." + key
}

func (o *object) fail(key, problem, instead string) { o.keep(refuse(o.name(key), problem, instead)) }

// mismatch refuses what the key has, and says what it must be.
func (o *object) mismatch(key, must string) {
	o.fail(key, "is "+clip(string(bytes.TrimSpace(o.fields[key]))), "it must be "+must)
}

// inner returns the object under a key, which may be given as JSON text; an empty
// one when there is none.
func (o *object) inner(key string) *object {
	in := &object{at: o.name(key), first: o.first}
	if !o.fields.has(key) {
		return in
	}
	raw := []byte(o.fields[key])
	if s, ok := o.fields.text(key); ok {
		if pythonRepr(s) && !structured(s) {
			o.keep(refuseRepr(in.at))
			return in
		}
		raw = []byte(s)
	}
	if err := json.Unmarshal(raw, &in.fields); err != nil || in.fields == nil {
		o.mismatch(key, "a JSON object, or the text that json.dumps makes of one")
		in.fields = nil
		return in
	}
	o.keep(checkDepth(in.at, raw, 1))
	return in
}

// elements returns the members of an array; none when there is no such key.
func (o *object) elements(key, must string, limit int) []json.RawMessage {
	if !o.fields.has(key) {
		return nil
	}
	var list []json.RawMessage
	if json.Unmarshal(o.fields[key], &list) != nil {
		o.mismatch(key, must)
		return nil
	}
	if len(list) > limit {
		o.fail(key, "has "+strconv.Itoa(len(list))+" entries", "at most "+strconv.Itoa(limit)+" are allowed")
		return nil
	}
	return list
}

// objects returns the objects of an array.
func (o *object) objects(key, must string, limit int) []*object {
	list := o.elements(key, must, limit)
	out := make([]*object, len(list))
	for i, raw := range list {
		out[i] = &object{at: fmt.Sprintf("%s[%d]", o.name(key), i), first: o.first}
		if json.Unmarshal(raw, &out[i].fields) != nil || out[i].fields == nil {
			o.keep(refuse(out[i].at, "is "+clip(string(raw)), "it must be an object"))
		}
	}
	return out
}
