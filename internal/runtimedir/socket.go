package runtimedir

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// socketHashBytes keeps the name short: the path of a Unix socket has room for
// 107 bytes. 64 bits keep the queues of one user apart.
const socketHashBytes = 8

// SocketPath returns where the daemon of a queue listens. The name is a hash of
// the queue's absolute directory, so that whoever knows the directory finds the
// socket without asking.
func SocketPath(dir, queueDir string) string {
	sum := sha256.Sum256([]byte(filepath.Clean(queueDir)))
	return filepath.Join(dir, hex.EncodeToString(sum[:socketHashBytes])+".sock")
}

// Sockets returns the sockets of that kind in the directory, whether anybody listens there
// or not; of a directory that is not there, none.
func Sockets(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the runtime directory: %w", err)
	}
	var out []string
	for _, e := range entries {
		hash, is := strings.CutSuffix(e.Name(), ".sock")
		if raw, err := hex.DecodeString(hash); is && err == nil && len(raw) == socketHashBytes {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	return out, nil
}
