package payload

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// exampleWords is what a list of words looks like.
const exampleWords = `["python", "train.py"]`

// words returns a program and its arguments.
func (o *object) words(key string) []string {
	list := o.elements(key, "a list of words, such as "+exampleWords, task.MaxArgs)
	if o.err() != nil {
		return nil
	}
	argv := make([]string, len(list))
	for i, raw := range list {
		word, err := decodeText(fmt.Sprintf("%s[%d]", o.name(key), i), raw)
		o.keep(err)
		argv[i] = word
	}
	if len(argv) == 0 || argv[0] == "" {
		o.fail(key, "names no program", "list it and its arguments: "+exampleWords)
		return nil
	}
	return argv
}

// listedAsText gives a list of words that came as JSON text as the list: what a
// door makes of its values must not matter.
func (o *object) listedAsText(key string) *object {
	s, ok := o.fields.text(key)
	if !ok || !structured(s) {
		return o
	}
	with := Fields{key: json.RawMessage(s)}
	return &object{at: o.at, fields: with.Over(o.fields), first: o.first}
}

// command returns the words of a list, or makes a shell line of a text.
func (o *object) command(key string) []string {
	o = o.listedAsText(key)
	if _, ok := o.fields.text(key); !ok {
		return o.words(key)
	}
	line := o.text(key)
	switch {
	case pythonRepr(line):
		o.keep(refuseRepr(o.name(key)))
	case strings.TrimSpace(line) == "" && o.err() == nil:
		o.fail(key, "is empty", "give a list of words, such as "+exampleWords+", or one shell line")
	}
	return []string{"/bin/sh", "-c", line}
}
