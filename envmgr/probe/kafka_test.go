package probe_test

import (
	"errors"
	"net"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/dspy-agent/dspy-agent/envmgr/probe"
)

func startKafka(t *testing.T, opts ...kfake.Opt) (*kfake.Cluster, string) {
	t.Helper()
	c, err := kfake.NewCluster(append(opts, kfake.NumBrokers(1))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, c.ListenAddrs()[0]
}

func TestKafka(t *testing.T) {
	t.Parallel()
	c, addr := startKafka(t)
	c.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		m, ok := req.(*kmsg.MetadataRequest)
		if !ok || m.Topics == nil || len(m.Topics) != 0 || m.Version >= 4 && m.AllowAutoTopicCreation {
			t.Errorf("asked with %+v", req)
		}
		return nil, nil, false
	})
	expect(t, run(t, probe.Kafka, addr), nil, "ApiVersions and Metadata were answered")
}

// Brokers no longer understand old requests, one release after the other.
func TestKafkaSpeaksEachVersionOfMetadata(t *testing.T) {
	t.Parallel()
	for least := int16(0); least <= 8; least++ {
		c, addr := startKafka(t)
		var asked atomic.Int32
		c.ControlKey(int16(kmsg.ApiVersions), func(req kmsg.Request) (kmsg.Response, error, bool) {
			return versions(req, 0, [3]int16{0, 3, 9}, [3]int16{3, least, 13}), nil, true
		})
		c.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
			asked.Store(int32(req.GetVersion()))
			return nil, nil, false
		})
		expect(t, run(t, probe.Kafka, addr), nil, "Metadata were answered")
		if got := int16(asked.Load()); got != max(least, 1) {
			t.Errorf("from %d on: asked with %d", least, got)
		}
	}
}

// versions is an answer to ApiVersions: keys, each with its least and its newest version.
func versions(req kmsg.Request, code int16, keys ...[3]int16) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.ApiVersionsResponse) // by its key
	resp.ErrorCode = code
	for _, k := range keys {
		resp.ApiKeys = append(resp.ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: k[0], MinVersion: k[1], MaxVersion: k[2]})
	}
	return resp
}

func TestOldKafka(t *testing.T) {
	t.Parallel()
	_, addr := startKafka(t, kfake.MaxVersions(kversion.V0_10_0()))
	expect(t, run(t, probe.Kafka, addr), nil, "Metadata were answered")
}

func TestKafkaThatIsNotReady(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		key    kmsg.Key
		answer func(kmsg.Request) kmsg.Response
		want   error
		says   string
	}{
		"knows no broker": {kmsg.Metadata, func(req kmsg.Request) kmsg.Response { return req.ResponseKind() },
			probe.ErrNotReady, "has not registered with its cluster yet"},
		"refuses": {kmsg.ApiVersions, func(req kmsg.Request) kmsg.Response { return versions(req, 35) },
			probe.ErrNotReady, "ApiVersions was answered with error 35"},
		"is a controller": {kmsg.ApiVersions, func(req kmsg.Request) kmsg.Response { return versions(req, 0, [3]int16{18, 0, 4}) },
			probe.ErrNotReady, "name the port where clients are served"},
		"is much newer": {kmsg.ApiVersions, func(req kmsg.Request) kmsg.Response { return versions(req, 0, [3]int16{3, 9, 20}) },
			nil, "newer than this program"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, addr := startKafka(t)
			c.ControlKey(int16(tc.key), func(req kmsg.Request) (kmsg.Response, error, bool) { return tc.answer(req), nil, true })
			expect(t, run(t, probe.Kafka, addr), tc.want, tc.says)
		})
	}
}

func TestKafkaThatWantsALogin(t *testing.T) {
	t.Parallel()
	_, addr := startKafka(t, kfake.EnableSASL(), kfake.Superuser("PLAIN", "u", "p"))
	expect(t, run(t, probe.Kafka, addr), probe.ErrNotReady, "wants a login here")
}

func TestKafkaAnswers(t *testing.T) {
	t.Parallel()
	const head = "\x00\x00\x00\x10prob"                                    // 16 bytes follow the size
	const apis = head + "\x00\x00\x00\x00\x00\x01\x00\x03\x00\x01\x00\x08" // Metadata from 1 to 8
	for name, tc := range map[string]struct {
		first, second string
		want          error
		says          string
	}{
		"HTTP":               {"HTTP/1.1 400 Bad Request\r\n\r\n", "", probe.ErrForeign, "does not speak the protocol of Kafka: it says \"HTTP/1.1\""},
		"tiny":               {"\x00\x00\x00\x02probxx", "", probe.ErrForeign, ""},
		"huge":               {"\x7f\xff\xff\xffprob", "", probe.ErrForeign, ""},
		"to somebody else":   {"\x00\x00\x00\x10borp\x00\x00\x00\x00\x00\x00", "", probe.ErrForeign, ""},
		"part":               {head, "", probe.ErrClosed, "in the middle"},
		"short":              {"\x00\x00\x00\x08prob\x00\x00\x00\x00", "", probe.ErrForeign, ""},
		"fewer than counted": {"\x00\x00\x00\x0aprob\x00\x00\x00\x00\x00\x07", "", probe.ErrForeign, ""},
		"less than none":     {"\x00\x00\x00\x0aprob\x00\x00\xff\xff\xff\xff", "", probe.ErrForeign, ""},
		"hangs up":           {apis, "", probe.ErrNotReady, "at Metadata it hung up"},
		"half of a broker":   {apis, "\x00\x00\x00\x0cprob\x00\x00\x00\x01\x00\x00\x00\x01", probe.ErrForeign, ""},
		"a broker":           {apis, "\x00\x00\x00\x0fprob\x00\x00\x00\x01\x00\x00\x00\x01\x00\x01h", nil, ""},
		"no broker":          {apis, "\x00\x00\x00\x08prob\x00\x00\x00\x00", probe.ErrNotReady, "registered"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expect(t, run(t, probe.Kafka, serve(t, func(conn net.Conn) {
				saying(tc.first)(conn)
				if tc.second != "" || tc.first == apis {
					saying(tc.second)(conn)
				}
			})), tc.want, tc.says)
		})
	}
}

func TestKafkaThatFallsSilent(t *testing.T) {
	t.Parallel()
	const apis = "\x00\x00\x00\x10prob\x00\x00\x00\x00\x00\x01\x00\x03\x00\x01\x00\x08"
	addr := serve(t, func(conn net.Conn) {
		saying(apis)(conn)
		untilLeft(conn)
	})
	r := probe.Run(t.Context(), probe.Spec{Kind: probe.Kafka, Timeout: 10 * probe.MinTimeout}, at(addr))
	expect(t, r, probe.ErrNotReady, "Metadata was not in time")
	if !errors.Is(r.Err, probe.ErrSilent) {
		t.Errorf("%v does not say that there was no answer in time", r.Err)
	}
}
