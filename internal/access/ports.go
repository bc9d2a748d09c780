package access

// Ports that stand in for one that is held by somebody else. They lie below
// where Linux begins to give ports to outgoing connections (32768,
// net.ipv4.ip_local_port_range) and above what services usually have.
const (
	standInFirst = 20480
	standInCount = 16  // for each user
	standInUsers = 768 // then the ports are those of another user as well
)

// StandIns returns the ports that are tried for a user when a port is held, in
// their order: the 16 from 20480 + 16 * (uid mod 768), beginning at one that
// depends on the wanted port, so that each service tends to get its own again.
// Users whose uids differ by a multiple of 768 share them, and take turns.
func StandIns(uid uint32, wanted uint16) []uint16 {
	first := standInFirst + uint16(uid%standInUsers)*standInCount
	ports := make([]uint16, 0, standInCount)
	for i := range uint16(standInCount) {
		ports = append(ports, first+(wanted+i)%standInCount)
	}
	return ports
}
