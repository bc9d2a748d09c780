package services_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/dspy-agent/dspy-agent/internal/services"
)

// TestOrderOfSources: of a service, each key and each variable counts as the strongest source
// has it that says something: the file of ENV_MANAGER_CONFIG, the configuration file, what is
// built in.
func TestOrderOfSources(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		file, own := "", "" // what each says
		given := func(what string) (inFile, inOwn bool) {
			return rapid.Bool().Draw(rt, what+" in the file"), rapid.Bool().Draw(rt, what+" in the own file")
		}
		want := builtin(t, "reddb")
		if f, o := given("image"); f || o {
			if f {
				file += "image = \"f\"\n"
				want.Image = "f"
			}
			if o {
				own += "image = \"o\"\n"
				want.Image = "o"
			}
		}
		if f, o := given("required"); f || o {
			if f {
				file += "required = false\n"
				want.Required = false
			}
			if o {
				own += "required = true\n"
				want.Required = true
			}
		}
		var fileEnv, ownEnv []string
		for i, name := range []string{"REDDB_DATA_DIR", "REDDB_HOST", "REDDB_PORT", "Y", "Z"} {
			f, o := given(name)
			if f {
				fileEnv = append(fileEnv, name+"=f")
			}
			if o {
				ownEnv = append(ownEnv, name+"=o")
			}
			text := name + "=f"
			if o {
				text = name + "=o"
			}
			switch {
			case !f && !o:
			case i < 3:
				want.Env[i] = text
			default:
				want.Env = append(want.Env, text)
			}
		}
		file += fmt.Sprintf("environment = %s\n", list(fileEnv))
		own += fmt.Sprintf("environment = %s\n", list(ownEnv))
		c, _, _ := load(t, "[services.reddb]\n"+file, "[[service_overrides]]\nname = \"reddb\"\n"+own)
		set, err := services.Set(c, owner, prometheusFile)
		if err != nil {
			rt.Fatal(err)
		}
		got, _ := set.Get("reddb")
		if got.Image != want.Image || got.Required != want.Required || !slices.Equal(got.Env, want.Env) {
			rt.Fatalf("%s\n%s\n got  %+v\n want %+v", file, own, got, want)
		}
	})
}

func list(words []string) string {
	s := "["
	for _, w := range words {
		s += fmt.Sprintf("%q, ", w)
	}
	return s + "]"
}
