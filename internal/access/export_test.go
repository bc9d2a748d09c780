package access

import "net/netip"

// What tests from outside need.
var (
	OwnersBy         = ownersBy
	MapsAll          = mapsAll
	Judge            = judge
	ParseProcLine    = parseProcLine
	ParseDiag        = parseDiag
	NewCertificate   = newCertificate
	ParseToken       = parseToken
	ParsePair        = parsePair
	ParseCertificate = parseCertificate
)

// Allows says whether Authorization headers have the token.
func (t Token) Allows(headers ...string) bool { return t.allows(headers) }

// Text is the token itself.
func (t Token) Text() string { return t.text }

// Open is how many connections of our uid are open.
func (g *Gate) Open() int64 { return g.full.taken.Load() }

// Break makes the next question fail.
func (o *Owners) Break() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.table.close()
}

// BreakForGood makes every question fail.
func (o *Owners) BreakForGood() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open = func() (table, error) { return nil, ErrLookup }
	return o.table.close()
}

func (l procLine) Local() netip.AddrPort  { return l.local }
func (l procLine) Remote() netip.AddrPort { return l.remote }

// Same says whether two are of one certificate.
func (c *Certificate) Same(as *Certificate) bool { return c.leaf.Equal(as.leaf) }
