package main

import (
	"encoding/binary"
	"testing"
)

// packet is a pcap record of an Ethernet frame with IPv4, TCP and a payload.
func packet(src, dst uint16, payload string) []byte {
	frame := make([]byte, 14+20+20, 14+20+20+len(payload))
	frame[12], frame[14], frame[14+9], frame[14+20+12] = 8, 0x45, 6, 5<<4
	binary.BigEndian.PutUint16(frame[34:], src)
	binary.BigEndian.PutUint16(frame[36:], dst)
	frame = append(frame, payload...)
	head := make([]byte, 16)
	binary.LittleEndian.PutUint32(head[8:], uint32(len(frame)))
	return append(head, frame...)
}

// packet6 is the same of IPv6.
func packet6(src, dst uint16, payload string) []byte {
	v4 := packet(src, dst, payload)
	frame := append(make([]byte, 14+40), v4[16+14+20:]...)
	frame[12], frame[13], frame[14], frame[14+6] = 0x86, 0xdd, 0x60, 6
	head := make([]byte, 16)
	binary.LittleEndian.PutUint32(head[8:], uint32(len(frame)))
	return append(head, frame...)
}

func TestTunnelRecords(t *testing.T) {
	const record = "\x17\x03\x03\x00\x10secret"
	file := make([]byte, 24)
	for _, p := range [][]byte{
		packet(40000, 15008, record), packet(15008, 40000, record), // both count
		packet6(40000, 15008, record), packet6(40000, 80, record), // the first counts
		packet(40000, 80, record), packet(40000, 15008, "GET / HTTP/1.1"), packet(40000, 15008, ""),
	} {
		file = append(file, p...)
	}
	if n := tunnelRecords(file); n != 3 {
		t.Errorf("%d segments, want 3", n)
	}
	for i := range file {
		tunnelRecords(file[:i]) // must not panic
	}
}
