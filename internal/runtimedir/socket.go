package runtimedir

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
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
