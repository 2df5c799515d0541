package xds

import "encoding/binary"

// ascii reports that b has no byte of more than seven bits: it is UTF-8 whatever it says, and wherever it is cut. Names and versions
// hardly ever are anything else, and most of the time this is several times as fast as to look at each rune.
func ascii(b []byte) bool {
	const high = 0x8080808080808080
	var seen uint64
	if len(b) < 8 {
		for _, c := range b {
			seen |= uint64(c)
		}
		return seen&high == 0
	}
	last := binary.LittleEndian.Uint64(b[len(b)-8:])
	for len(b) >= 8 {
		seen |= binary.LittleEndian.Uint64(b)
		b = b[8:]
	}
	return (seen|last)&high == 0
}
