package config

import (
	"strconv"
	"strings"
)

// kind is what a value of the file is.
type kind uint8

const (
	kindText kind = iota
	kindInteger
	kindNumber // with a fraction or an exponent
	kindBoolean
	kindList
	kindOther // dates, and what has no place in any setting
)

// value is one value of the file, a variable or a flag; the latter two are texts.
type value struct {
	kind    kind
	text    string // of a text; of the others as they are written
	integer int64
	number  float64
	boolean bool
	list    []value
}

// shown is the value in a message.
func (v value) shown() string {
	const most = 60
	switch v.kind {
	case kindText:
		if len(v.text) > most {
			return strconv.Quote(strings.ToValidUTF8(v.text[:most], "")) + "..."
		}
		return strconv.Quote(v.text)
	case kindList:
		parts := make([]string, len(v.list))
		for i, item := range v.list {
			parts[i] = item.shown()
		}
		if s := "[" + strings.Join(parts, ", ") + "]"; len(s) <= most {
			return s
		}
		return "a list"
	default:
		if len(v.text) > most || v.text == "" {
			return "something else"
		}
		return v.text
	}
}

// base is what values are read against.
type base struct {
	workspace string // absolute
	home      string // absolute; "" = not known
	file      bool   // the value stands in the file, where ~/ is the home
}

// number is a value as the file would have it: variables and flags are texts.
func (b base) number(v value) value {
	if n, err := strconv.ParseInt(v.text, 10, 64); err == nil && !b.file && v.kind == kindText {
		v.kind, v.integer = kindInteger, n
	}
	return v
}

// truth is the same for true and false, which variables also have as 1 and 0.
func (b base) truth(v value) value {
	if t, err := strconv.ParseBool(v.text); err == nil && !b.file && v.kind == kindText {
		v.kind, v.boolean = kindBoolean, t
	}
	return v
}
