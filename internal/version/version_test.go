package version

import (
	"runtime/debug"
	"testing"
)

func TestDescribe(t *testing.T) {
	const hash = "0123456789abcdef0123456789abcdef01234567"
	installed := &debug.BuildInfo{Main: debug.Module{Version: "v1.4.0"}}
	checkout := &debug.BuildInfo{
		Main:     debug.Module{Version: "(devel)"},
		Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: hash}},
	}
	for _, tc := range []struct {
		name, version, commit string
		info                  *debug.BuildInfo
		want                  string
	}{
		{name: "stamped release", version: "v1.2.0", commit: hash, info: checkout, want: "v1.2.0"},
		{name: "stamped commit without a tag", version: "dev", commit: hash, want: "dev+0123456789ab"},
		{name: "go install of a release", version: "dev", info: installed, want: "v1.4.0"},
		{name: "go build in a checkout", version: "dev", info: checkout, want: "dev+0123456789ab"},
		{name: "short commit", version: "dev", commit: "abc1234", want: "dev+abc1234"},
		{name: "nothing known", version: "dev", want: "dev"},
		{name: "stamped with nothing", version: "", info: &debug.BuildInfo{}, want: "dev"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := describe(tc.version, tc.commit, tc.info); got != tc.want {
				t.Errorf("describe(%q, %q) = %q, want %q", tc.version, tc.commit, got, tc.want)
			}
		})
	}
}
