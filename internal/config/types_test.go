package config

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestReadDuration(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "90s": 90 * time.Second, "1h30m": 90 * time.Minute, "7d": 7 * oneDay, "0.5d": 12 * time.Hour, "1d12h": 36 * time.Hour, "1.5s": 1500 * time.Millisecond,
	} {
		if got, ok := readDuration(in); !ok || got != want {
			t.Errorf("%q is %s, %v; want %s", in, got, ok, want)
		}
	}
	for _, in := range []string{"", "7", "d", "-1s", "1s-1s", "+1d", "1e3d", "7 d", "7days", "infd", "nand", "1d5", "1d0", "99999999d", "9999999h", "1dd", "1d-1h", "1_0d"} {
		if got, ok := readDuration(in); ok {
			t.Errorf("%q is %s", in, got)
		}
	}
}

func TestParseSize(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int64{
		"0": 0, "0B": 0, "12GiB": 12 << 30, "12 GiB": 12 << 30, "500MB": 500e6, "1.5gib": 3 << 29, "7b": 7, "1152921504606846975B": 1<<60 - 1,
	} {
		if got, ok := ParseSize(in); !ok || got != want {
			t.Errorf("%q is %d, %v; want %d", in, got, ok, want)
		}
	}
	for _, in := range []string{"", "7", "12G", "12Gi", "GiB", "-1B", "+1B", "1e3B", "1  B", "1B ", "0x1B", "infB", "99999999999TiB", "1.2.3B", "1_0B"} {
		if got, ok := ParseSize(in); ok {
			t.Errorf("%q is %d", in, got)
		}
	}
}

// TestRoundTrips: what is written is read back.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(0, int64(century)).Draw(t, "duration"))
		if rapid.Bool().Draw(t, "round") {
			d = d.Truncate(time.Hour)
		}
		if got, ok := readDuration(writeDuration(d)); !ok || got != d {
			t.Fatalf("%d became %q, and that %d, %v", d, writeDuration(d), got, ok)
		}
		n := rapid.Int64Range(0, maxBytes).Draw(t, "size") >> rapid.IntRange(0, 60).Draw(t, "shift")
		if got, ok := ParseSize(writeSize(n)); !ok || got != n {
			t.Fatalf("%d became %q, and that %d, %v", n, writeSize(n), got, ok)
		}
		s := rapid.String().Draw(t, "text")
		d2 := parse("f", []byte("k = "+quote(s)), "")
		if len(d2.problems) > 0 || d2.leaves[0].val.text != s {
			t.Fatalf("%q became %s: %v", s, quote(s), d2.problems)
		}
	})
}

func TestWritten(t *testing.T) {
	t.Parallel()
	for want, d := range map[string]time.Duration{
		"0s": 0, "1m": time.Minute, "1h": time.Hour, "24h": oneDay, "2d": 2 * oneDay, "2d1h": 49 * time.Hour, "1h30m": 90 * time.Minute, "1m1s": 61 * time.Second, "250ms": 250 * time.Millisecond,
	} {
		if got := writeDuration(d); got != want {
			t.Errorf("%d is written %s, want %s", d, got, want)
		}
	}
	for want, n := range map[string]int64{"0B": 0, "1KiB": 1024, "10GB": 10e9, "1GiB": 1 << 30, "1023B": 1023, "1TiB": 1 << 40} {
		if got := writeSize(n); got != want {
			t.Errorf("%d is written %s, want %s", n, got, want)
		}
	}
}

// FuzzFile: whatever a file holds, it is a complete configuration or a list of
// mistakes with their lines; and never a panic.
func FuzzFile(f *testing.F) {
	f.Add([]byte(Reference()))
	for _, seed := range []string{
		"grpc_addr = \":1\"\nhealth_check_timeout_secs = 3", "[[service_overrides]]\nname = \"a\"\nenv = {A = \"1\"}\n[service_overrides.env]\nB = \"2\"",
		"service_overrides = [{name = \"a\", ports = [\"1:2/udp\"]}, {}, 3]", "service_overrides.name = 1", "[service_overrides]", "[[service_overrides.a]]",
	} {
		f.Add([]byte(seed))
	}
	for _, seed := range []string{
		"", "a = 1", "[capacity]\nnice = 3\n[capacity]", "[[a]]\nb = 1", "a = {b = [1, {c = 2}], d.e = \"x\"}", "classes.x.alias_of = \"x\"", "x = 1979-05-27T07:32:00Z",
		"types.a.command = '''\n[x]'''", "a.b = 1\na = 2", "\"\" = 1", "[types.\"\\u0000\"]", "a = [[[", "classes = 1\n[classes.x]", "types = {a = {env = {}, command = \"x\"}}", "\xef\xbb\xbf#", "#\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, read := range []func(*builder, string, []byte){(*builder).file, (*builder).envManagerFile} {
			fuzzed(t, data, read)
		}
	})
}

func fuzzed(t *testing.T, data []byte, read func(*builder, string, []byte)) {
	t.Helper()
	b := newBuilder(base{workspace: "/w", home: "/h"})
	read(b, "f", data)
	b.consistent()
	if err := Invalid(b.problems); err != nil {
		for _, p := range b.problems {
			if p.File != "f" || p.Line < 1 || p.Text == "" {
				t.Fatalf("%q: %+v", data, p)
			}
		}
		return
	}
	c := b.finish()
	for _, name := range c.ClassNames() {
		if k, err := c.Class(name); err != nil || len(k.Backends) == 0 {
			t.Fatalf("%q: class %s is %+v, %v", data, name, k, err)
		}
	}
	for _, v := range c.Values() {
		if v.Source.Kind == FromFile && (v.Source.Line < 1 || v.Source.Name != "f") {
			t.Fatalf("%q: %+v", data, v)
		}
	}
}
