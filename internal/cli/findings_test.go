package cli

import (
	"strings"
	"testing"
)

// TestFoundIsToldInWords: what is lost has a line each, and what a repair makes anew one
// for all.
func TestFoundIsToldInWords(t *testing.T) {
	t.Parallel()
	lost := jsonFound{Kind: "task", Seq: 7, ID: "train", Text: "what was asked for is lost"}
	index := jsonFound{Kind: "index", Seq: 9, Text: "is in index ready (00ff), where it should not be"}
	for _, c := range []struct {
		list []jsonFound
		want string
	}{
		{nil, ""},
		{[]jsonFound{lost}, "task train (number 7): what was asked for is lost\n"},
		{[]jsonFound{index}, "nothing is lost: one entry of an index or a counter disagrees with the records; a repair makes those anew (--json lists them)\n"},
		{
			[]jsonFound{lost, index, index},
			"task train (number 7): what was asked for is lost\n2 entries of indexes and counters disagree with the records, which a repair makes anew (--json lists them)\n",
		},
	} {
		var out strings.Builder
		showFound(&screen{w: &out, fd: -1}, c.list)
		if out.String() != c.want {
			t.Errorf("got  %q\nwant %q", out.String(), c.want)
		}
	}
}

// TestSizeText: room that was only made ready is not called free.
func TestSizeText(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		all, free, reserved int64
		want                string
	}{
		{4096, 0, 0, "4.0 KiB"},
		{16 << 20, 0, 16<<20 - 8192, "16 MiB, 16 MiB of it ready for what comes"},
		{16 << 20, 8192, 16<<20 - 32768, "16 MiB, 8.0 KiB of it free (25% of what is in use), 16 MiB of it ready for what comes"},
	} {
		if got := sizeText(c.all, c.free, c.reserved); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}
