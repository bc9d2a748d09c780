package probe

import (
	"bufio"
	"bytes"
	"io"
	"strings"
)

// maxRedisLine bounds an answer. The longest known, of the protected mode, has 900 bytes.
const maxRedisLine = 2048

// redisErrors are the errors that say whether a service will do, whatever else they
// say. Any other error means that it will not.
var redisErrors = map[string]struct {
	ready bool
	means string
}{
	"NOAUTH":     {true, "it wants a password, and is up"},
	"NOPERM":     {true, "PING is not allowed here, and it is up"},
	"LOADING":    {false, "it still reads its data"},
	"MASTERDOWN": {false, "it is a replica that has lost its master"},
	"BUSY":       {false, "it runs a script, and does nothing else meanwhile"},
	"MISCONF":    {false, "it cannot write its data to disk"},
	"DENIED":     {false, "its protected mode lets in only its own container: set a password, or protected-mode no"},
}

func askRedis(p *peer) (string, error) {
	if err := p.send([]byte("*1\r\n$4\r\nPING\r\n")); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(io.LimitReader(p, maxRedisLine)).ReadBytes('\n')
	if err != nil && len(line) < maxRedisLine {
		return p.judged("", partOfRedis(line, err), "the protocol of Redis")
	}
	detail, err := decodeRedis(line)
	return p.judged(detail, err, "the protocol of Redis")
}

// partOfRedis says what a line without an end means: one that begins as no answer to
// PING does is none, whatever would have followed.
func partOfRedis(line []byte, err error) error {
	if len(line) > 0 && line[0] != '+' && line[0] != '-' {
		return errNotThis
	}
	return &readError{err}
}

// decodeRedis judges an answer to PING: a line, of which the end may be missing.
func decodeRedis(line []byte) (string, error) {
	line = bytes.TrimRight(line, "\r\n")
	if string(line) == "+PONG" {
		return "PING was answered with PONG", nil
	}
	text, isError := strings.CutPrefix(string(line), "-")
	code, _, _ := strings.Cut(text, " ")
	if !isError || code == "" || strings.Trim(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return "", errNotThis
	}
	known, ok := redisErrors[code]
	switch {
	case !ok:
		return "", fail(ErrNotReady, nil, "PING was answered with -%s", plain(text))
	case known.ready:
		return "PING was answered with -" + code + ": " + known.means, nil
	default:
		return "", fail(ErrNotReady, nil, "PING was answered with -%s: %s", code, known.means)
	}
}
