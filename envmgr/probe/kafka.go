package probe

import (
	"encoding/binary"
	"errors"
	"io"
)

// Kafka's protocol by hand. Two requests of some twenty bytes are needed, at versions
// that will not change any more; a client library brings several megabytes, goroutines
// of its own, and repeats what fails, where a probe is to say that it failed. Tests
// hold it against another implementation.
//
// ApiVersions alone proves little: a broker answers it as soon as it has opened its
// port. One that has registered with its cluster also knows a broker, itself, when it
// is asked for Metadata.

// Keys of requests.
const (
	keyMetadata    = 3
	keyAPIVersions = 18
)

// Versions of Metadata that are spoken: since 1 no topics can be asked for, and from
// 9 on numbers and texts are written in another way.
const (
	minMetadata = 1
	maxMetadata = 8
)

// maxKafka bounds an answer: ApiVersions has about 500 bytes, Metadata without topics
// 50 for each broker.
const maxKafka = 64 << 10

func askKafka(p *peer) (string, error) {
	answer, err := p.callKafka(requestKafka(keyAPIVersions, 0, nil))
	if err != nil {
		return "", err
	}
	version, err := decodeAPIVersions(answer)
	switch {
	case errors.Is(err, errNotThis):
		return "", p.foreign("the protocol of Kafka")
	case errors.Is(err, errNewer):
		// Answering to nobody we know is not the same as not answering.
		return "ApiVersions was answered; its Metadata is newer than this program, and was not asked for", nil
	case err != nil:
		return "", err
	}
	answer, err = p.callKafka(requestKafka(keyMetadata, version, metadataBody(version)))
	if err != nil {
		return "", afterVersions(err)
	}
	detail, err := decodeMetadata(answer, version)
	return p.judged(detail, err, "the protocol of Kafka")
}

// afterVersions says what an error means behind an answer to ApiVersions: the broker is
// alive.
func afterVersions(err error) error {
	switch {
	case errors.Is(err, ErrClosed):
		return fail(ErrNotReady, err, "ApiVersions was answered, and at Metadata it hung up: it is ending, or wants a login here; then name the port of a listener without one, or probe with tcp or exec")
	case errors.Is(err, ErrSilent):
		return fail(ErrNotReady, err, "ApiVersions was answered, and Metadata was not in time: it is starting, or busy")
	}
	return err
}

// callKafka sends a request and returns the answer, without its size and correlation.
func (p *peer) callKafka(request []byte) ([]byte, error) {
	p.heard = nil
	if err := p.send(request); err != nil {
		return nil, err
	}
	answer, err := readKafka(p)
	_, err = p.judged("", err, "the protocol of Kafka")
	return answer, err
}

// correlation is what an answer begins with when it is one.
const correlation = 0x70726f62

// requestKafka is a whole request: size, header of version 1, body.
func requestKafka(key, version uint16, body []byte) []byte {
	const client = "envmgr-probe"
	b := binary.BigEndian.AppendUint32(nil, uint32(2+2+4+2+len(client)+len(body)))
	b = binary.BigEndian.AppendUint16(b, key)
	b = binary.BigEndian.AppendUint16(b, version)
	b = binary.BigEndian.AppendUint32(b, correlation)
	b = binary.BigEndian.AppendUint16(b, uint16(len(client)))
	return append(append(b, client...), body...)
}

// metadataBody asks for no topics, and that none be made.
func metadataBody(version uint16) []byte {
	body := make([]byte, 4, 7)
	if version >= 4 {
		body = append(body, 0) // no topic is to be created
	}
	if version >= 8 {
		body = append(body, 0, 0) // who may do what is not asked
	}
	return body
}

// readKafka reads an answer.
func readKafka(r io.Reader) ([]byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, &readError{err}
	}
	size := binary.BigEndian.Uint32(head[:4])
	if size < 4 || size > maxKafka || binary.BigEndian.Uint32(head[4:]) != correlation {
		return nil, errNotThis
	}
	answer := make([]byte, size-4)
	if _, err := io.ReadFull(r, answer); err != nil {
		return nil, &readError{err}
	}
	return answer, nil
}

// errNewer: no version of Metadata is spoken by both.
var errNewer = errors.New("no version in common")

// decodeAPIVersions returns the version of Metadata to ask for.
func decodeAPIVersions(answer []byte) (version uint16, err error) {
	f := fields{rest: answer}
	code, n := f.int16(), f.int32()
	if f.short || n < 0 {
		return 0, errNotThis
	}
	if code != 0 {
		return 0, fail(ErrNotReady, nil, "ApiVersions was answered with error %d", code)
	}
	for range n {
		key, least, most := f.int16(), f.int16(), f.int16()
		if f.short {
			return 0, errNotThis
		}
		if key != keyMetadata {
			continue
		}
		least, most = max(least, minMetadata), min(most, maxMetadata)
		if least > most {
			return 0, errNewer
		}
		return uint16(least), nil
	}
	// A controller of KRaft has no Metadata, and no clients.
	return 0, fail(ErrNotReady, nil, "ApiVersions was answered by something that has no Metadata, as a controller; name the port where clients are served")
}

// decodeMetadata judges by the brokers that are known.
func decodeMetadata(answer []byte, version uint16) (string, error) {
	f := fields{rest: answer}
	if version >= 3 {
		f.int32() // for how long it throttles us
	}
	switch brokers := f.int32(); {
	case f.short || brokers < 0:
		return "", errNotThis
	case brokers == 0:
		return "", fail(ErrNotReady, nil, "Metadata was answered without a broker: it has not registered with its cluster yet")
	}
	f.int32() // the first one's number
	if f.text(); f.short {
		return "", errNotThis
	}
	return "ApiVersions and Metadata were answered", nil
}

// fields takes an answer apart. What is missing reads as zero, and sets short.
type fields struct {
	rest  []byte
	short bool
}

func (f *fields) take(n int) []byte {
	if n < 0 || n > len(f.rest) {
		f.short, f.rest = true, nil
		return make([]byte, 4)
	}
	b := f.rest[:n]
	f.rest = f.rest[n:]
	return b
}

func (f *fields) int16() int16 { return int16(binary.BigEndian.Uint16(f.take(2))) }
func (f *fields) int32() int32 { return int32(binary.BigEndian.Uint32(f.take(4))) }
func (f *fields) text() string { return string(f.take(int(f.int16()))) }
