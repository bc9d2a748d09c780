package access_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/access"
)

// secretFiles returns what is in the files of a certificate, a key and a token.
func secretFiles(f *testing.F) (cert, key, token []byte) {
	f.Helper()
	dir := secrets(f)
	content := make([][]byte, len(files))
	for i, name := range files {
		var err error
		if content[i], err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			f.Fatal(err)
		}
	}
	return content[0], content[1], content[2]
}

// FuzzToken reads files that a copy has cut or a person has edited. What is taken
// for a token lets those in who show exactly the file's line, and nobody else.
func FuzzToken(f *testing.F) {
	_, _, whole := secretFiles(f)
	f.Add(whole)
	f.Add(whole[:len(whole)-2])
	f.Add(append(bytes.TrimSpace(whole), "\r\n"...))
	f.Add(bytes.ToUpper(whole))
	f.Add([]byte("dspyagent_\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		token, ok := access.ParseToken(data)
		text := strings.TrimSuffix(string(data), "\n")
		if !ok {
			if token.Allows("Bearer " + text) {
				t.Errorf("%q is no token, and lets in", text)
			}
			return
		}
		if strings.Contains(token.String()+token.GoString(), text) {
			t.Errorf("it prints as %s", token)
		}
		for _, near := range []string{"", text + "=", text + "\n", text[:len(text)-1], text + "x"} {
			if token.Allows("Bearer " + near) {
				t.Errorf("of %q, who shows %q is let in", text, near)
			}
		}
		if !token.Allows("bearer " + text) {
			t.Errorf("who shows %q is not let in", text)
		}
	})
}

// FuzzCertificate reads files of a certificate and of a key, made by us, by somebody
// else or by an accident. What a server starts with, a client reads that copies its
// certificate, and knows the server by it.
func FuzzCertificate(f *testing.F) {
	cert, key, _ := secretFiles(f)
	otherCert, otherKey, _ := secretFiles(f)
	f.Add(cert, key)
	f.Add(key, cert)
	f.Add(bytes.Join([][]byte{[]byte("subject=CN = login1\n"), key, cert}, nil), key) // one file of both, as some programs want it
	f.Add(append(bytes.Clone(cert), otherCert...), key)
	f.Add(cert, otherKey)
	f.Add(cert[:len(cert)/2], key[:len(key)/2])
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"), key)
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, cert, key []byte) {
		client, err := access.ParseCertificate(cert)
		if err == nil {
			_, _, _ = client.Warning(time.Unix(0, 0)), client.Hosts(), client.ClientTLS()
		}
		server, serverErr := access.ParsePair(cert, key)
		switch {
		case serverErr != nil:
		case err != nil:
			t.Errorf("a server shows what a client cannot read: %v", err)
		case !client.Same(server):
			t.Error("a client expects another certificate than the server shows")
		}
	})
}
