package config

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestReadPort(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]ServicePort{
		"1:2": {Host: 1, Container: 2}, "0:65535/udp": {Container: 65535, UDP: true}, "1:2/tcp": {Host: 1, Container: 2},
		"0.0.0.0:1:2": {Address: "0.0.0.0", Host: 1, Container: 2}, "[::]:1:2/udp": {Address: "::", Host: 1, Container: 2, UDP: true},
	} {
		if got, ok := readPort(in); !ok || got != want {
			t.Errorf("%q is %+v, %v; want %+v", in, got, ok, want)
		}
	}
	for _, in := range []string{"", "1", ":1", "1:", "1:0", "01:2", "+1:2", "1:65536", "65536:1", "-1:2", "a:1", "a:1:2", ":1:2", "::1:1:2", "[127.0.0.1]:1:2", "[::1:1:2", "1:2/sctp", "1:2/", "1-2:1-2", " 1:2"} {
		if got, ok := readPort(in); ok {
			t.Errorf("%q is %+v", in, got)
		}
	}
}

func TestReadVolume(t *testing.T) {
	t.Parallel()
	b := base{workspace: "/w", home: "/h", file: true}
	for in, want := range map[string]ServiceVolume{
		"data:/data": {Name: "data", Target: "/data"}, "data:/data/:ro": {Name: "data", Target: "/data", ReadOnly: true}, "d.1:/x:rw": {Name: "d.1", Target: "/x"},
		"/a/../b:/x": {Source: "/b", Target: "/x"}, "~/b:/x": {Source: "/h/b", Target: "/x"}, "./b:/x": {Source: "/w/b", Target: "/x"}, "../b:/x:ro": {Source: "/b", Target: "/x", ReadOnly: true},
	} {
		if got, ok := b.volume(in); !ok || got != want {
			t.Errorf("%q is %+v, %v; want %+v", in, got, ok, want)
		}
	}
	for _, in := range []string{"", "data", "/data", "data:", ":/data", "data:data", "data:/", "data:/x:z", "data:/x:ro:", "a/b:/x", "~bob/x:/x", "a b:/x", "/\x00:/x"} {
		if got, ok := b.volume(in); ok {
			t.Errorf("%q is %+v", in, got)
		}
	}
}

func TestSplitWords(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][]string{
		"": nil, "  ": nil, " a  b\tc\n": {"a", "b", "c"}, `a "b c" d`: {"a", "b c", "d"}, `'a "b' c`: {`a "b`, "c"}, `"" ''`: {"", ""}, `--a="b c"`: {"--a=b c"},
		`a\ b \"`: {"a b", `"`}, `"a\"b\\c\d"`: {`a"b\c\d`}, `'a\b'`: {`a\b`}, `$HOME;ls`: {"$HOME;ls"}, "é ü": {"é", "ü"},
	} {
		if got, ok := splitWords(in); !ok || !slices.Equal(got, want) {
			t.Errorf("%q is %q, %v; want %q", in, got, ok, want)
		}
	}
	for _, in := range []string{`"a`, `'a`, `a\`, `"a\"`} {
		if got, ok := splitWords(in); ok {
			t.Errorf("%q is %q", in, got)
		}
	}
}

// TestServiceRoundTrips: what is shown of ports and volumes is read back as the same.
func TestServiceRoundTrips(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := ServicePort{
			Address: rapid.SampledFrom([]string{"", "0.0.0.0", "127.0.0.2", "::", "fe80::1"}).Draw(t, "address"),
			Host:    rapid.IntRange(0, 65535).Draw(t, "host"), Container: rapid.IntRange(1, 65535).Draw(t, "container"), UDP: rapid.Bool().Draw(t, "udp"),
		}
		if got, ok := readPort(p.String()); !ok || got != p {
			t.Fatalf("%+v became %s, and that %+v, %v", p, p, got, ok)
		}
		v := ServiceVolume{Target: "/" + rapid.StringMatching(`[a-z]{1,5}(/[a-z]{1,5})?`).Draw(t, "target"), ReadOnly: rapid.Bool().Draw(t, "read only")}
		if rapid.Bool().Draw(t, "path") {
			v.Source = "/" + rapid.StringMatching(`[a-z .]{1,5}x`).Draw(t, "source")
		} else {
			v.Name = rapid.StringMatching(`[a-zA-Z0-9][a-zA-Z0-9_.-]{0,8}`).Draw(t, "name")
		}
		if got, ok := (base{}).volume(v.String()); !ok || got != v {
			t.Fatalf("%+v became %s, and that %+v, %v", v, v, got, ok)
		}
	})
}
