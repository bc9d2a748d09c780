package access_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/access"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

func TestParsePlan(t *testing.T) {
	const both = "127.0.0.1 ::1"
	for _, tc := range []struct {
		text    string
		secured bool
		want    string // addresses or name, "tls", "warned"; "refused"
	}{
		{text: "127.0.0.1:50052", want: both},
		{text: "127.0.0.1:0", want: both},
		{text: "127.0.0.1:50052", secured: true, want: both},
		{text: "localhost:50052", want: both},
		{text: "LocalHost.:50052", want: both},
		{text: "[::1]:50052", want: both},
		{text: "[::ffff:127.0.0.1]:50052", want: both},
		{text: "127.0.1.1:50052", want: "127.0.1.1"},
		{text: ":50052", want: both + " warned"},
		{text: "0.0.0.0:50052", want: both + " warned"},
		{text: "[::]:50052", want: both + " warned"},
		{text: "[::ffff:0.0.0.0]:50052", want: both + " warned"},
		{text: ":50052", secured: true, want: ":: tls"},
		{text: "0.0.0.0:50052", secured: true, want: "0.0.0.0 tls"},
		{text: "[::]:50052", secured: true, want: ":: tls"},
		{text: "192.0.2.7:50052", want: "refused"},
		{text: "192.0.2.7:50052", secured: true, want: "192.0.2.7 tls"},
		{text: "[fe80::1%eth0]:50052", want: "refused"},
		{text: "[fe80::1%eth0]:50052", secured: true, want: "fe80::1%eth0 tls"},
		{text: "[::%eth0]:50052", want: "refused"},
		{text: "[::1%lo]:50052", want: "::1%lo"},
		{text: "login1:50052", want: "refused"},
		{text: "login1.example.org:50052", secured: true, want: "login1.example.org tls"},
		{text: "127.1:50052", want: "refused"},
		{text: "localhost.evil.example:50052", want: "refused"},
		// What is no address is none with TLS either.
		{text: "", secured: true, want: "refused"},
		{text: "50052", secured: true, want: "refused"},
		{text: "127.0.0.1", secured: true, want: "refused"},
		{text: "127.0.0.1:", secured: true, want: "refused"},
		{text: "127.0.0.1:grpc", secured: true, want: "refused"},
		{text: "127.0.0.1:+5", secured: true, want: "refused"},
		{text: "127.0.0.1:-1", secured: true, want: "refused"},
		{text: "127.0.0.1:65536", secured: true, want: "refused"},
		{text: "http://127.0.0.1:9097", secured: true, want: "refused"},
		{text: "::1:50052", secured: true, want: "refused"},
		{text: "a b:1", secured: true, want: "refused"},
		{text: "-host:1", secured: true, want: "refused"},
		{text: "a..b:1", secured: true, want: "refused"},
		{text: strings.Repeat("a", 64) + ":1", secured: true, want: "refused"},
	} {
		t.Run(fmt.Sprintf("%s secured=%v", tc.text, tc.secured), func(t *testing.T) {
			p, err := access.ParsePlan(tc.text, tc.secured)
			if got := planText(p, err); got != tc.want {
				t.Errorf("got %q (%v), want %q", got, err, tc.want)
			}
			if err != nil && task.CodeOf(err) != task.CodeInvalid {
				t.Errorf("code %s", task.CodeOf(err))
			}
		})
	}
}

func planText(p access.Plan, err error) string {
	if err != nil {
		return "refused"
	}
	var words []string
	for _, a := range p.Addrs {
		words = append(words, a.String())
	}
	if p.Name != "" {
		words = append(words, p.Name)
	}
	if p.TLS {
		words = append(words, "tls")
	}
	if p.Warning != "" {
		words = append(words, "warned")
	}
	return strings.Join(words, " ")
}

func TestRefusedAddressSaysWhatToDo(t *testing.T) {
	_, err := access.ParsePlan("login1:50052", false)
	if err == nil {
		t.Fatal("not refused")
	}
	for _, want := range []string{"login1:50052", "dspy-agent access tls login1 && dspy-agent access token"} {
		if text := err.Error(); !strings.Contains(text, want) {
			t.Errorf("%q does not say %q", text, want)
		}
	}
}

// TestRefusedAddressNamesWhatIsMissing and nothing else: what is there is not made again.
func TestRefusedAddressNamesWhatIsMissing(t *testing.T) {
	for _, c := range []struct {
		lacks     access.Lacks
		says, not string
	}{
		{access.Lacks{Certificate: true}, "dspy-agent access tls 192.0.2.2;", "access token"},
		{access.Lacks{Token: true}, "dspy-agent access token;", "access tls"},
	} {
		_, err := access.PlanWith("192.0.2.2:9444", c.lacks)
		if err == nil {
			t.Fatal("not refused")
		}
		if msg := err.Error(); !strings.Contains(msg, c.says) || strings.Contains(msg, c.not) {
			t.Errorf("%+v: %s", c.lacks, msg)
		}
	}
}

// FuzzPlan looks for an address that listens beyond loopback without TLS.
func FuzzPlan(f *testing.F) {
	for _, text := range []string{"127.0.0.1:1", ":1", "[::]:1", "[::ffff:7f00:1]:0", "localhost:1", "h:1", "[fe80::1%lo]:1", "0x7f.1:1"} {
		f.Add(text, true)
		f.Add(text, false)
	}
	f.Fuzz(func(t *testing.T, text string, secured bool) {
		p, err := access.ParsePlan(text, secured)
		if err != nil {
			return
		}
		if (len(p.Addrs) == 0) == (p.Name == "") {
			t.Errorf("%q is %+v: neither or both of addresses and name", text, p)
		}
		beyond := p.Name != "" || slices.ContainsFunc(p.Addrs, func(a netip.Addr) bool { return !a.IsLoopback() })
		if beyond && !p.TLS || p.TLS && !secured {
			t.Errorf("%q (secured %v) is %+v", text, secured, p)
		}
	})
}

func TestStandIns(t *testing.T) {
	for _, uid := range []uint32{0, 1, 767, 768, 1000, 65534, 1<<32 - 1} {
		for _, wanted := range []uint16{0, 50052, 50100, 9097, 65535} {
			ports := access.StandIns(uid, wanted)
			first := 20480 + 16*uint16(uid%768)
			if len(ports) != 16 || slices.Min(ports) != first || slices.Max(ports) != first+15 || slices.Max(ports) >= 32768 {
				t.Errorf("uid %d, port %d: %v", uid, wanted, ports)
			}
			if slices.Sort(ports); len(slices.Compact(ports)) != 16 {
				t.Errorf("uid %d, port %d: a port twice", uid, wanted)
			}
		}
	}
	if access.StandIns(1000, 50052)[0] == access.StandIns(1001, 50052)[0] {
		t.Error("neighbours have one port")
	}
}
