package api

import "github.com/dspy-agent/dspy-agent/internal/rpc"

func text(s string) string { return rpc.Text(s) }

func texts(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = text(s)
	}
	return out
}
