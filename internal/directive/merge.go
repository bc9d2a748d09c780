package directive

import "slices"

// Merge puts together what several ask for, the weakest voice first. What a stronger one
// says about something takes the place of all that weaker ones said about it: GPUs can be
// asked for in five ways, memory in three. What one voice says twice counts as it was
// said last.
func Merge(voices ...[]Option) []Option {
	var out []Option
	for _, voice := range voices {
		said := map[string]bool{}
		for _, o := range voice {
			said[o.about()] = true
		}
		out = slices.DeleteFunc(out, func(o Option) bool { return said[o.about()] })
		for _, o := range voice {
			out = slices.DeleteFunc(out, func(before Option) bool { return before.Name == o.Name })
			out = append(out, o)
		}
	}
	return out
}

// about is what the option is about.
func (o Option) about() string {
	if a := options[o.Name].about; a != "" {
		return a
	}
	return o.Name
}
