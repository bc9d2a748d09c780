package probe

import (
	"bufio"
	"io"
	"strings"
)

// maxZooKeeper bounds an answer to srvr, which has about 200 bytes.
const maxZooKeeper = 8192

// askZooKeeper sends srvr: of the four-letter words it is the one that is allowed
// unless somebody forbade it.
func askZooKeeper(p *peer) (string, error) {
	if err := p.send([]byte("srvr")); err != nil {
		return "", err
	}
	detail, err := decodeZooKeeper(io.LimitReader(p, maxZooKeeper))
	return p.judged(detail, err, "the protocol of ZooKeeper")
}

// decodeZooKeeper judges an answer to srvr. It reads no further than it must, since
// the other end need not close.
func decodeZooKeeper(answer io.Reader) (string, error) {
	lines := bufio.NewReader(answer)
	first, err := lines.ReadString('\n')
	switch {
	case strings.Contains(first, "is not executed because it is not in the whitelist"):
		return "srvr is not in its whitelist, and it is up", nil
	case strings.Contains(first, "is not currently serving requests"):
		return "", fail(ErrNotReady, nil, "srvr was answered: it is not serving requests yet")
	case err != nil && (err != io.EOF || first == ""):
		return "", &readError{err}
	case !strings.HasPrefix(first, "Zookeeper version:"):
		return "", errNotThis
	}
	for err == nil {
		var line string
		line, err = lines.ReadString('\n')
		if mode, ok := strings.CutPrefix(line, "Mode: "); ok && (err == nil || err == io.EOF) {
			return modeOf(mode)
		}
	}
	if err != io.EOF {
		return "", &readError{err}
	}
	return "", fail(ErrNotReady, nil, "srvr was answered without a mode: it is not serving yet")
}

// modeOf judges a server by its mode.
func modeOf(mode string) (string, error) {
	mode = plain(mode)
	if mode == "read-only" {
		return "", fail(ErrNotReady, nil, "srvr was answered: it is read-only, since it has lost its ensemble")
	}
	return "srvr was answered: " + mode, nil
}
