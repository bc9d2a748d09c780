package access_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/access"
)

// procText writes an address as the kernel does, on any machine.
func procText(at netip.AddrPort) string {
	var text strings.Builder
	raw := at.Addr().AsSlice()
	for i := 0; i < len(raw); i += 4 {
		fmt.Fprintf(&text, "%08X", binary.NativeEndian.Uint32(raw[i:]))
	}
	return fmt.Sprintf("%s:%04X", text.String(), at.Port())
}

// FuzzProcLine reads lines of /proc/net/tcp and tcp6. What is read and written
// again has to be read as the same.
func FuzzProcLine(f *testing.F) {
	for _, name := range []string{"tcp", "tcp6"} {
		data, err := os.ReadFile("/proc/net/" + name)
		if err != nil {
			f.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			f.Add(line)
		}
	}
	f.Add("   0: 0100007F:C383 0100007F:0016 01 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0000000000000000 20 4 30 10 -1")
	f.Add("   1: 0000000000000000FFFF00000100007F:C383 0000000000000000FFFF00000100007F:0016 06 0:0 0:0 0 0 0 0")
	f.Add("0: : : : : :")
	f.Add("")
	f.Fuzz(func(t *testing.T, line string) {
		l, err := access.ParseProcLine([]byte(line))
		if err != nil {
			return
		}
		again := fmt.Sprintf("0: %s %s %02X 0:0 0:0 0 %d 0 %d 1", procText(l.Local()), procText(l.Remote()), uint8(l.State), l.UID, l.Inode)
		if got, err := access.ParseProcLine([]byte(again)); err != nil || got != l {
			t.Errorf("%q was read as %+v, and %q as %+v, %v", line, l, again, got, err)
		}
	})
}

func TestProcLine(t *testing.T) {
	const line = "   7: %s %s 01 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0000000000000000 20 4 30 10 -1"
	for _, tc := range []struct{ local, remote string }{
		{"127.0.0.1:50052", "127.0.0.1:40000"},
		{"[::1]:50052", "[::1]:40000"},
		{"[fe80::1]:1", "[2001:db8::2]:65535"},
	} {
		local, remote := netip.MustParseAddrPort(tc.local), netip.MustParseAddrPort(tc.remote)
		l, err := access.ParseProcLine(fmt.Appendf(nil, line, procText(local), procText(remote)))
		if err != nil || l.Local() != local || l.Remote() != remote || l.State != access.Established || l.UID != 1000 || l.Inode != 4242 {
			t.Errorf("%s to %s was read as %+v, %v", local, remote, l, err)
		}
	}
}

// FuzzDiag reads answers of netlink.
func FuzzDiag(f *testing.F) {
	answer := make([]byte, 72)
	answer[0], answer[1] = 2, 1
	f.Add(answer)
	answer[0] = 10
	f.Add(answer)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		_, from, to, err := access.ParseDiag(data)
		if err == nil && (!from.IsValid() || !to.IsValid()) {
			t.Errorf("%x was read as the addresses %s and %s", data, from, to)
		}
	})
}
