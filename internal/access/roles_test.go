package access_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/access"
)

// roles are what a child process can play.
var roles = map[string]func(args []string) error{
	"knock":  func(a []string) error { return knock(a[0], a[1], a[2]) },
	"listen": func(a []string) error { return listenAs(a[0]) },
	"leave":  func(a []string) error { return leave(a[0]) },
	"get":    func(a []string) error { return get(a[0], a[1:]) },
	"serve":  func([]string) error { return serve() },
	"owners": func([]string) error { return tryGate() },
}

// stolen is what a stranger sends.
const stolen = "SUBMIT everything as if I were you\n"

// waysToKnock are what a stranger may try.
var waysToKnock = map[string]func(net.Conn) (heard int, err error){
	"send and wait": sendAndRead,
	"send and half-close": func(c net.Conn) (int, error) {
		_, _ = io.WriteString(c, stolen)
		_ = c.(*net.TCPConn).CloseWrite()
		return sendAndRead(c)
	},
	"send and close": func(c net.Conn) (int, error) { _, _ = io.WriteString(c, stolen); return 0, nil },
	"send and reset": func(c net.Conn) (int, error) {
		_, _ = io.WriteString(c, stolen)
		return 0, c.(*net.TCPConn).SetLinger(0)
	},
	"close without word": func(net.Conn) (int, error) { return 0, nil },
}

// sendAndRead returns how much the server said. That it closed or reset is what
// is expected; that it does not is found by the deadline.
func sendAndRead(c net.Conn) (int, error) {
	_, _ = io.WriteString(c, stolen)
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return 0, err
	}
	heard, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		return len(heard), err
	}
	return len(heard), nil
}

// knock connects again and again, and prints how often it could, and what it heard.
func knock(addr, way, times string) error {
	n, err := strconv.Atoi(times)
	if err != nil {
		return err
	}
	connected, heard := 0, 0
	for range n {
		connected++
		c, err := net.Dial("tcp", addr)
		if errors.Is(err, syscall.ECONNRESET) {
			continue // refused before connect(2) had returned
		}
		if err != nil {
			return err
		}
		h, err := waysToKnock[way](c)
		if err != nil {
			return err
		}
		heard += h
		_ = c.Close()
	}
	fmt.Printf("connected %d times, heard %d bytes\n", connected, heard)
	return nil
}

// leave sends, resets, and prints the address it had, which is then free.
func leave(addr string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(c, stolen); err != nil {
		return err
	}
	if err := c.(*net.TCPConn).SetLinger(0); err != nil {
		return err
	}
	if err := c.Close(); err != nil {
		return err
	}
	fmt.Println(c.LocalAddr())
	return nil
}

// listenAs listens, says where, and ends with its input. It prints what it was
// sent by those whom it accepted, if it accepts.
func listenAs(how string) error {
	lis, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(lis.Addr())
	heard := make(chan string, 1)
	if how == "accept" {
		go func() {
			var all bytes.Buffer
			for {
				c, err := lis.Accept()
				if err != nil {
					heard <- all.String()
					return
				}
				_, _ = io.Copy(&all, c)
				_ = c.Close()
			}
		}()
	} else {
		heard <- ""
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = lis.Close()
	fmt.Printf("heard %q\n", <-heard)
	return nil
}

// get asks for paths over HTTP, and prints each with its status.
func get(base string, paths []string) error {
	for _, p := range paths {
		method, path, _ := strings.Cut(p, " ")
		req, err := http.NewRequest(method, base+path, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			fmt.Println(p, "failed")
			continue
		}
		_ = resp.Body.Close()
		fmt.Println(p, resp.StatusCode)
	}
	return nil
}

// serve is a server behind a Gate, that ends with its input and prints what it
// was sent.
func serve() error {
	owners, err := access.NewOwners()
	if err != nil {
		return err
	}
	defer func() { _ = owners.Close() }()
	gate, err := access.NewGate(access.GateOptions{UID: uint32(os.Geteuid()), Owners: owners, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	lis, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	rec := record(gate.Loopback(lis))
	fmt.Println(lis.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
	rec.close()
	fmt.Printf("accepted %d, refused %v\n", len(rec.conns()), gate.Refused())
	return nil
}

// tryGate prints what NewGate says.
func tryGate() error {
	owners, err := access.NewOwners()
	if err != nil {
		return err
	}
	defer func() { _ = owners.Close() }()
	_, err = access.NewGate(access.GateOptions{UID: uint32(os.Geteuid()), Owners: owners, Logger: slog.New(slog.DiscardHandler)})
	fmt.Println(os.Geteuid(), errors.Is(err, access.ErrAmbiguousUser))
	return nil
}
