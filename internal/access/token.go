package access

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"path/filepath"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// TokenFile is what MakeToken makes.
const TokenFile = "token"

const (
	// tokenPrefix makes a token that got into a commit or a log easy to find.
	tokenPrefix = "dspyagent_"
	tokenBytes  = 32
)

// A Token is what those say who come in over TLS. It prints as "[token]".
type Token struct {
	text string
	hash [sha256.Size]byte
}

// String hides the token from logs and messages.
func (Token) String() string { return "[token]" }

// GoString hides the token from %#v.
func (Token) GoString() string { return "[token]" }

// MakeToken makes a token of 256 random bits and writes it into dir, which is
// made if need be. One that is there is replaced only with force; else the error
// wraps ErrExists.
func MakeToken(dir string, uid uint32, force bool) error {
	if err := makePrivateDir(dir, uid); err != nil {
		return err
	}
	var raw [tokenBytes]byte
	_, _ = rand.Read(raw[:]) // never fails (crypto/rand)
	text := tokenPrefix + base64.RawURLEncoding.EncodeToString(raw[:])
	return writePrivate(filepath.Join(dir, TokenFile), []byte(text+"\n"), force)
}

// ReadToken reads what MakeToken wrote. The error wraps fs.ErrNotExist if there
// is none, and ErrUnsafeFile if it is not ours alone.
func ReadToken(file string, uid uint32) (Token, error) {
	data, err := readPrivate(file, uid, secret)
	if err != nil {
		return Token{}, err
	}
	t, ok := parseToken(data)
	if !ok {
		return Token{}, task.Errorf(task.CodeInvalid, "%s has no whole token; copy it again, or make another with: dspy-agent access token --force", file)
	}
	return t, nil
}

// parseToken reads the line that MakeToken wrote, or what was left of it on its way.
func parseToken(line []byte) (Token, bool) {
	text := strings.TrimSuffix(string(line), "\n")
	digits, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok {
		return Token{}, false
	}
	raw, err := base64.RawURLEncoding.DecodeString(digits)
	// Written again it has to be the same: the decoder overlooks ends of lines.
	if err != nil || len(raw) != tokenBytes || base64.RawURLEncoding.EncodeToString(raw) != digits {
		return Token{}, false
	}
	return Token{text: text, hash: sha256.Sum256([]byte(text))}, true
}

const bearer = "Bearer "

// header is the value of the Authorization header.
func (t Token) header() string { return bearer + t.text }

// allows says whether there is one Authorization header, with the token. It takes
// the same time wherever they differ.
func (t Token) allows(headers []string) bool {
	if t.text == "" || len(headers) != 1 {
		return false
	}
	h := headers[0]
	if len(h) < len(bearer) || !strings.EqualFold(h[:len(bearer)], bearer) { // RFC 9110, 11.1: in any case
		return false
	}
	got := sha256.Sum256([]byte(h[len(bearer):]))
	return subtle.ConstantTimeCompare(got[:], t.hash[:]) == 1
}
