package queue

import (
	"crypto/sha256"
	"encoding/binary"

	bolt "go.etcd.io/bbolt"

	"github.com/dspy-agent/dspy-agent/queue/queuepb"
)

// Environments are stored once for all the tasks that have the same: what is
// submitted from one shell differs in nothing there, and an environment is
// often longer than all the rest of a task. Each has a count of the specs that
// name it, and goes with the last of them.

// envHash names an environment; zero = none.
type envHash [16]byte

func hashEnv(vars []string) (h envHash) {
	if len(vars) == 0 {
		return h
	}
	sum := sha256.New()
	var n [8]byte
	for _, v := range vars {
		binary.BigEndian.PutUint64(n[:], uint64(len(v)))
		_, _ = sum.Write(n[:]) // a hash never fails
		_, _ = sum.Write([]byte(v))
	}
	copy(h[:], sum.Sum(nil))
	return h
}

func (h envHash) bytes() []byte {
	if h == (envHash{}) {
		return nil
	}
	return h[:]
}

// shareEnv makes one spec more share the environment, and stores it if it is
// the first. One that was damaged is stored again: its key is the hash of what it
// was, so that this is exactly what was lost.
func (b *batch) shareEnv(h envHash, vars []string) error {
	if h == (envHash{}) {
		return nil
	}
	envs := b.bucket(bucketEnvs)
	if _, err := open(bucketEnvs, h[:], envs.Get(h[:]), formatProto); err != nil {
		v, err := seal(&queuepb.EnvRecord{Vars: toBytes(vars)})
		if err != nil {
			return err
		}
		if err := envs.Put(h[:], v); err != nil {
			return err
		}
	}
	b.envs[h]++
	return nil
}

// leaveEnv makes one spec less share the environment.
func (b *batch) leaveEnv(hash []byte) {
	if len(hash) == len(envHash{}) {
		b.envs[envHash(hash)]--
	}
}

// storeEnvRefs writes the counts that the batch changed, and drops what nobody
// shares any more.
func (b *batch) storeEnvRefs() error {
	refs := b.bucket(bucketEnvRefs)
	for h, delta := range b.envs {
		n := envRefs(refs, h[:]) + delta
		if n > 0 {
			if err := refs.Put(h[:], binary.AppendUvarint(nil, uint64(n))); err != nil {
				return err
			}
			continue
		}
		if err := refs.Delete(h[:]); err != nil {
			return err
		}
		if err := b.bucket(bucketEnvs).Delete(h[:]); err != nil {
			return err
		}
	}
	return nil
}

func envRefs(refs *bolt.Bucket, hash []byte) int {
	n, _ := binary.Uvarint(refs.Get(hash)) // 0 when absent
	return int(n)
}

func readEnv(tx *bolt.Tx, hash []byte) ([]string, error) {
	var rec queuepb.EnvRecord
	if err := openMessage(bucketEnvs, hash, tx.Bucket(bucketEnvs).Get(hash), &rec); err != nil {
		return nil, err
	}
	return toStrings(rec.Vars), nil
}
