package gpu

import (
	"fmt"
	"strings"
	"unicode"
)

// Request is what a task needs of GPUs. The zero Request needs none.
type Request struct {
	GPUs  int    // whole ones
	Bytes int64  // of memory, for a share of one GPU
	Model string // words of the model's name; "" = any
	MIG   string // profile of one MIG instance, such as "1g.10gb"
}

// None says that no GPU is needed.
func (r Request) None() bool { return r.GPUs <= 0 && r.Bytes <= 0 && r.MIG == "" && r.Model == "" }

// form is how a request is met.
type form int

const (
	formWhole form = iota
	formShare
	formInstance
)

func (r Request) form() form {
	switch {
	case r.MIG != "":
		return formInstance
	case r.Bytes > 0:
		return formShare
	default:
		return formWhole
	}
}

// Count is how many devices meet the request.
func (r Request) Count() int { return r.devices() }

// devices is how many devices meet the request.
func (r Request) devices() int { return max(1, r.GPUs) }

// Problem says what is wrong with a request that no machine could meet, or "".
func (r Request) Problem() string {
	switch {
	case r.GPUs < 0:
		return "a negative number of GPUs"
	case r.Bytes < 0:
		return "a negative amount of GPU memory"
	case r.MIG != "" && r.GPUs > 1:
		return "one program sees only one MIG instance: ask for one, or for whole GPUs"
	case r.MIG != "" && r.Bytes > 0:
		return "a MIG instance has memory of its own: ask for the profile or for memory, not for both"
	case r.Bytes > 0 && r.GPUs > 1:
		return "memory is given of one GPU: ask for whole GPUs, or for the memory of one"
	}
	return ""
}

// String is "2 GPUs", "20 GiB of a GPU", "a MIG instance 1g.10gb", with the
// model.
func (r Request) String() string {
	var what string
	switch r.form() {
	case formInstance:
		what = "a MIG instance " + r.MIG
	case formShare:
		what = Size(r.Bytes) + " of a GPU"
	default:
		what = plural(r.devices(), "GPU", "GPUs")
	}
	if r.Model != "" {
		what += " of model " + r.Model
	}
	return what
}

// isModel says whether a device's name is of the model that was asked for: each
// word of it must be one of the name's, or several in a row. So "a100" is
// "NVIDIA A100-SXM4-80GB" and "rtx4090" is "NVIDIA GeForce RTX 4090", and "a10"
// is not "A100".
func isModel(name, asked string) bool {
	have := words(name)
	for _, w := range words(asked) {
		if !spelled(have, w) {
			return false
		}
	}
	return true
}

func words(s string) []string {
	return strings.FieldsFunc(strings.ToLower(s), func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) })
}

// spelled says whether w is some of the words, one after another.
func spelled(words []string, w string) bool {
	for i := range words {
		rest := w
		for _, next := range words[i:] {
			var ok bool
			if rest, ok = strings.CutPrefix(rest, next); !ok {
				break
			}
			if rest == "" {
				return true
			}
		}
	}
	return false
}

// Size writes bytes for people: "30 GiB", "1.5 GiB", "200 MiB".
func Size(bytes int64) string {
	const mib, gib = 1 << 20, 1 << 30
	switch {
	case bytes >= gib && bytes%gib == 0:
		return fmt.Sprintf("%d GiB", bytes/gib)
	case bytes >= gib:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(bytes)/gib), ".0") + " GiB"
	case bytes >= mib:
		return fmt.Sprintf("%d MiB", bytes/mib)
	default:
		return fmt.Sprintf("%d bytes", bytes)
	}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n, " ", many)
}
