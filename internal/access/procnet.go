package access

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
)

// procTable reads /proc/net/tcp and tcp6 (proc_pid_net(5)), for where netlink is
// not allowed. It costs time in proportion to the number of sockets of the host.
type procTable struct{ dir string }

func newProcTable() (table, error) {
	t := &procTable{dir: "/proc/net"}
	f, err := os.Open(filepath.Join(t.dir, "tcp"))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLookup, err)
	}
	return t, f.Close()
}

func (t *procTable) close() error { return nil }

func (t *procTable) connected(local, remote netip.AddrPort) (Socket, error) {
	return t.find(local, func(l procLine) bool {
		return l.local == local && l.remote == remote && l.State != Listen
	})
}

func (t *procTable) listening(at netip.AddrPort) (Socket, error) {
	// The kernel prefers the listener of the address itself to one of all addresses.
	s, err := t.find(at, func(l procLine) bool { return l.State == Listen && l.local == at })
	if !errors.Is(err, ErrNoEntry) {
		return s, err
	}
	return t.find(at, func(l procLine) bool {
		return l.State == Listen && l.local.Port() == at.Port() && l.local.Addr().IsUnspecified()
	})
}

// find looks twice. The kernel writes the file in pieces, and a line can be left
// out when others before it go away in between.
func (t *procTable) find(local netip.AddrPort, match func(procLine) bool) (Socket, error) {
	// A socket of IPv6 that speaks IPv4 is in tcp6.
	files := []string{"tcp", "tcp6"}
	if local.Addr().Is6() {
		files = files[1:]
	}
	for range 2 {
		for _, name := range files {
			s, err := findIn(filepath.Join(t.dir, name), match)
			if !errors.Is(err, ErrNoEntry) {
				return s, err
			}
		}
	}
	return Socket{}, ErrNoEntry
}

func findIn(path string, match func(procLine) bool) (Socket, error) {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Socket{}, ErrNoEntry // no IPv6
	case err != nil:
		return Socket{}, fmt.Errorf("%w: %w", ErrLookup, err)
	}
	defer f.Close() //nolint:errcheck // only read
	return scanProc(f, match)
}

// scanProc returns the first socket that matches.
func scanProc(r io.Reader, match func(procLine) bool) (Socket, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), 64<<10)
	for first := true; lines.Scan(); first = false {
		if first {
			continue // names of the columns
		}
		l, err := parseProcLine(lines.Bytes())
		if err != nil {
			return Socket{}, fmt.Errorf("%w: %w", ErrLookup, err)
		}
		if match(l) {
			return l.Socket, nil
		}
	}
	if err := lines.Err(); err != nil {
		return Socket{}, fmt.Errorf("%w: %w", ErrLookup, err)
	}
	return Socket{}, ErrNoEntry
}

// A procLine is one socket in /proc/net/tcp or tcp6.
type procLine struct {
	Socket
	local, remote netip.AddrPort
}

// Columns of a line. tx and rx queue, and timer and its time, are one each.
const (
	procLocal  = 1
	procRemote = 2
	procState  = 3
	procUID    = 7
	procInode  = 9
)

var errProcLine = errors.New("a line of /proc/net/tcp is not as expected")

func parseProcLine(line []byte) (procLine, error) {
	var cols [procInode + 1][]byte
	rest := line
	for i := range cols {
		rest = bytes.TrimLeft(rest, " ")
		end := bytes.IndexByte(rest, ' ')
		if end < 0 {
			end = len(rest)
		}
		cols[i], rest = rest[:end], rest[end:]
	}
	var l procLine
	var errs [5]error
	l.local, errs[0] = parseProcAddr(cols[procLocal])
	l.remote, errs[1] = parseProcAddr(cols[procRemote])
	var state, uid uint64
	state, errs[2] = strconv.ParseUint(string(cols[procState]), 16, 8)
	uid, errs[3] = strconv.ParseUint(string(cols[procUID]), 10, 32)
	l.Inode, errs[4] = strconv.ParseUint(string(cols[procInode]), 10, 64)
	if err := errors.Join(errs[:]...); err != nil {
		return procLine{}, fmt.Errorf("%w: %q: %w", errProcLine, line, err)
	}
	l.State, l.UID = State(state), uint32(uid)
	return l, nil
}

// parseProcAddr reads "0100007F:C383". The address is that of the memory, printed
// as one (IPv4) or four (IPv6) numbers of this machine; the port is a number.
func parseProcAddr(text []byte) (netip.AddrPort, error) {
	addr, port, ok := bytes.Cut(text, []byte{':'})
	var raw [16]byte
	if !ok || len(port) != 4 || len(addr) != 8 && len(addr) != 32 {
		return netip.AddrPort{}, errProcLine
	}
	n, err := hex.Decode(raw[:], addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for i := 0; i < n; i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	number, err := strconv.ParseUint(string(port), 16, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	ip, _ := netip.AddrFromSlice(raw[:n])
	return netip.AddrPortFrom(ip.Unmap(), uint16(number)), nil
}
