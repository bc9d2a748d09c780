package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// A burst is one request sent again and again, each time on a new connection that
// is left at once.
type burst struct {
	Addr    string
	Request []byte
	Way     string // of waysToLeave
	Rounds  int
}

func (b burst) String() string { return fmt.Sprintf("%d times to %s, %s", b.Rounds, b.Addr, b.Way) }

// A knocked tells what came of a burst.
type knocked struct {
	Sent    int // connections on which the whole request could be written
	Refused int // connections that were reset before it was
	Heard   int // bytes that the server has sent
	Took    time.Duration
}

// waysToLeave are what is done once the request is written.
var waysToLeave = map[string]func(*net.TCPConn) (heard int, err error){
	"close": func(*net.TCPConn) (int, error) { return 0, nil },
	"reset": func(c *net.TCPConn) (int, error) { return 0, c.SetLinger(0) },
	"half-close": func(c *net.TCPConn) (int, error) {
		_ = c.CloseWrite() // it may be reset already
		return heardUntilEnd(c)
	},
	"stay": heardUntilEnd,
}

func heardUntilEnd(c *net.TCPConn) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return 0, err
	}
	text, err := io.ReadAll(c)
	if errors.Is(err, syscall.ECONNRESET) {
		err = nil
	}
	return len(text), err
}

// TestSendAndLeave has another user send a whole submission and leave, before
// anybody can have looked who it was: by HTTP/1.1 and by gRPC over HTTP/2, in IPv4
// and IPv6. The queue never hears of it, the owner comes in meanwhile by the
// socket and in between by the same door, and at the end with the very same bytes.
func TestSendAndLeave(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	d := openDoors(t)
	end := d.holdMine()
	byHTTP, byGRPC := httpSubmission("stolen-by-http"), grpcSubmission(t, "stolen-by-grpc")
	before := d.answeredRequests()
	stop := d.keepAsking(t)
	owners := 0
	for _, addr := range bothFamilies(t, d.http) {
		owners += d.knockAt(t, burst{Addr: addr, Request: byHTTP}, d.healthByHTTP)
	}
	for _, addr := range bothFamilies(t, d.grpc) {
		owners += d.knockAt(t, burst{Addr: addr, Request: byGRPC}, d.healthByGRPC)
	}
	owners += stop()
	if answered := d.answeredRequests() - before; answered != owners {
		t.Errorf("%d requests were answered, but only %d were the owner's", answered, owners)
	}
	d.wantOnlyMine()
	end()
	d.ownerComesIn(t)
}

// knockAt knocks at one address in every way, and returns how often the owner was
// let in there in between.
func (d *doors) knockAt(t *testing.T, b burst, ownersHealth func(addr string) error) (owners int) {
	t.Helper()
	b.Rounds = rounds(200, 10_000)
	// Connections are looked at in their order: when the owner's was, all before it were.
	letIn := func() {
		t.Helper()
		owners++
		if err := ownersHealth(b.Addr); err != nil {
			t.Fatalf("after another user, the owner is not let in at %s: %v", b.Addr, err)
		}
	}
	for b.Way = range waysToLeave {
		got := playAs[knocked](t, stranger, "knock", b)
		if got.Heard != 0 || got.Sent+got.Refused != b.Rounds {
			t.Errorf("%s: another user %+v", b, got)
		}
		t.Logf("%s: %d whole, %s", b, got.Sent, got.Took.Round(time.Millisecond))
		letIn()
	}
	const atOnce = 100 // fits into the kernel's line on any host (net.core.somaxconn)
	for _, b.Way = range []string{"close", "reset"} {
		begun, all := time.Now(), b
		b.Rounds = atOnce
		for range all.Rounds / atOnce {
			d.knockWhileHeldUp(t, b)
			letIn()
		}
		b = all
		t.Logf("%s, while the daemon is held up: all whole, %s", b, time.Since(begun).Round(time.Millisecond))
	}
	return owners
}

// knockWhileHeldUp sends a burst while the daemon does not get to run, so that each
// connection has come to its end, with the whole request in it, before it is looked at.
func (d *doors) knockWhileHeldUp(t *testing.T, b burst) {
	t.Helper()
	daemon := d.daemon().cmd.Process
	if err := daemon.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	d.eventually(time.Minute, "every thread of the daemon stands still", func() bool { return stopped(daemon.Pid) })
	got := playAs[knocked](t, stranger, "knock", b)
	if err := daemon.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if got.Heard != 0 || got.Sent != b.Rounds {
		t.Errorf("%s, while the daemon is held up: another user %+v", b, got)
	}
}

// stopped says whether no thread of a process runs.
func stopped(pid int) bool {
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(stats) == 0 {
		return false
	}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if end := bytes.LastIndexByte(text, ')'); err != nil || !bytes.HasPrefix(text[end+1:], []byte(" T")) {
			return false
		}
	}
	return true
}

// keepAsking has the owner ask by the socket, again and again, until stop is called,
// which returns how often that was.
func (d *doors) keepAsking(t *testing.T) (stop func() int) {
	t.Helper()
	c, ctx := d.client(), t.Context()
	end, asked := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		defer func() { asked <- n }()
		for {
			select {
			case <-end:
				return
			default:
			}
			n++
			if h, err := c.Health(ctx, &pb.HealthRequest{}); err != nil || !h.GetHealthy() {
				t.Errorf("the socket, while another user knocks at the ports: %v, %v", h, err)
				return
			}
			pauseFor(time.Millisecond)
		}
	}()
	return func() int {
		close(end)
		return <-asked
	}
}

// healthByHTTP asks by one address, on a connection of its own, whether all is well.
func (d *doors) healthByHTTP(addr string) error {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	resp, err := client.Get("http://" + addr + "/health")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("health is %s", resp.Status)
	}
	return nil
}

// healthByGRPC is the same by gRPC.
func (d *doors) healthByGRPC(addr string) error {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err = pb.NewOrchestratorServiceClient(conn).Health(ctx, &pb.HealthRequest{})
	return err
}

// ownerComesIn sends as the owner what the stranger sent, and waits for the answer.
func (d *doors) ownerComesIn(t *testing.T) {
	t.Helper()
	own := map[string][]byte{d.http: httpSubmission("own-by-http"), d.grpc: grpcSubmission(t, "own-by-grpc")}
	for addr, request := range own {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
	}
	d.eventually(time.Minute, "the owner's own submissions are in the queue", func() bool {
		all := d.all()
		return all["own-by-http"] != nil && all["own-by-grpc"] != nil
	})
}

// httpSubmission is a whole request to submit a task.
func httpSubmission(id string) []byte {
	body := fmt.Sprintf(`{"id": %q, "payload": {"message": "hello"}}`, id)
	return fmt.Appendf(nil, "POST /queue/submit HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// grpcSubmission is the same in gRPC: what our own client sends, recorded.
func grpcSubmission(t *testing.T, id string) []byte {
	t.Helper()
	lis, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	recorded := make(chan []byte, 1)
	go func() {
		defer close(recorded)
		if c, err := lis.Accept(); err == nil {
			defer c.Close()
			if text, err := recordRequest(c); err == nil {
				recorded <- text
			}
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err = pb.NewOrchestratorServiceClient(plainConn(t, lis.Addr().String())).
		SubmitTask(ctx, &pb.SubmitTaskRequest{Id: id, Payload: map[string]string{"message": "hello"}})
	_ = lis.Close()
	text, ok := <-recorded
	if !ok {
		t.Fatalf("the client's request could not be recorded: %v", err)
	}
	return text
}

// recordRequest plays as much of an HTTP/2 server as a client needs to send its
// first request, and returns all that it sent until the request's end.
func recordRequest(c net.Conn) ([]byte, error) {
	const (
		prefaceLen, headerLen = 24, 9
		typeData, endStream   = 0, 1
	)
	if _, err := c.Write([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0}); err != nil { // SETTINGS
		return nil, err
	}
	var text bytes.Buffer
	in := io.TeeReader(c, &text)
	if _, err := io.CopyN(io.Discard, in, prefaceLen); err != nil {
		return nil, err
	}
	for {
		header := make([]byte, headerLen)
		if _, err := io.ReadFull(in, header); err != nil {
			return nil, err
		}
		length := int64(binary.BigEndian.Uint32(append([]byte{0}, header[:3]...)))
		if _, err := io.CopyN(io.Discard, in, length); err != nil {
			return nil, err
		}
		if header[3] == typeData && header[4]&endStream != 0 {
			return text.Bytes(), nil
		}
	}
}

// knockAll is a role: it sends a burst.
func knockAll(input []byte) (any, error) {
	var b burst
	if err := json.Unmarshal(input, &b); err != nil {
		return nil, err
	}
	var got knocked
	begun := time.Now()
	for range b.Rounds {
		c, err := net.Dial("tcp", b.Addr)
		if errors.Is(err, syscall.ECONNRESET) {
			got.Refused++ // before connect(2) had returned
			continue
		}
		if err != nil {
			return nil, err
		}
		if _, err := c.Write(b.Request); err == nil {
			got.Sent++
		} else {
			got.Refused++
		}
		heard, err := waysToLeave[b.Way](c.(*net.TCPConn))
		if err != nil {
			return nil, err
		}
		got.Heard += heard
		_ = c.Close()
	}
	got.Took = time.Since(begun)
	return got, nil
}
