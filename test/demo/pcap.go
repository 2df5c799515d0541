package demo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// segment is one TCP segment's payload.
type segment struct {
	seq  uint32
	data []byte
}

// flows puts together the TCP payloads of a pcap file (Ethernet, little-endian, as tcpdump writes here), by direction. A gap
// ends a flow: what follows it is left out. Begun are those whose SYN is in the file.
func flows(file []byte) (out map[flowKey][]byte, begun map[flowKey]bool, err error) {
	if len(file) < 24 || binary.LittleEndian.Uint32(file) != 0xa1b2c3d4 || binary.LittleEndian.Uint32(file[20:]) != 1 {
		return nil, nil, errors.New("not a pcap file of Ethernet frames")
	}
	segments, starts := map[flowKey][]segment{}, map[flowKey]uint32{}
	for rest := file[24:]; len(rest) >= 16; {
		size := int(binary.LittleEndian.Uint32(rest[8:]))
		if len(rest) < 16+size {
			return nil, nil, fmt.Errorf("capture cut short: a packet of %d bytes, %d left", size, len(rest)-16)
		}
		if key, seg, syn, ok := parseTCP(rest[16 : 16+size]); ok {
			if syn {
				starts[key] = seg.seq + 1
			} else if len(seg.data) > 0 {
				segments[key] = append(segments[key], seg)
			}
		}
		rest = rest[16+size:]
	}
	out, begun = map[flowKey][]byte{}, map[flowKey]bool{}
	for key := range starts {
		out[key], begun[key] = nil, true
	}
	for key, all := range segments {
		start, whole := starts[key]
		if !whole {
			start = all[0].seq // began before the capture
		}
		out[key] = assemble(start, all)
	}
	return out, begun, nil
}

func assemble(start uint32, all []segment) []byte {
	// Sequence numbers wrap: order by distance from the start.
	slices.SortStableFunc(all, func(a, b segment) int { return int(int32(a.seq-start)) - int(int32(b.seq-start)) })
	var data []byte
	for _, s := range all {
		at := int(int32(s.seq - start))
		if at > len(data) {
			break
		}
		if over := len(data) - at; over < len(s.data) && over >= 0 {
			data = append(data, s.data[over:]...)
		}
	}
	return data
}

// parseTCP reads an Ethernet frame with IPv4 or IPv6 (no extension headers) and TCP in it.
func parseTCP(b []byte) (key flowKey, seg segment, syn, ok bool) {
	if len(b) < 14 {
		return
	}
	var src, dst netip.Addr
	packet := b[14:]
	switch kind := binary.BigEndian.Uint16(b[12:]); {
	case kind == 0x0800 && len(packet) >= 20 && packet[9] == 6:
		src, _ = netip.AddrFromSlice(packet[12:16])
		dst, _ = netip.AddrFromSlice(packet[16:20])
		header, size := int(packet[0]&15)*4, min(len(packet), int(binary.BigEndian.Uint16(packet[2:])))
		packet = packet[min(header, size):size]
	case kind == 0x86dd && len(packet) >= 40 && packet[6] == 6:
		src, _ = netip.AddrFromSlice(packet[8:24])
		dst, _ = netip.AddrFromSlice(packet[24:40])
		packet = packet[40:min(len(packet), 40+int(binary.BigEndian.Uint16(packet[4:])))]
	default:
		return
	}
	if len(packet) < 20 || len(packet) < int(packet[12]>>4)*4 {
		return
	}
	key = flowKey{
		netip.AddrPortFrom(src, binary.BigEndian.Uint16(packet)), netip.AddrPortFrom(dst, binary.BigEndian.Uint16(packet[2:])),
	}
	return key, segment{binary.BigEndian.Uint32(packet[4:]), packet[int(packet[12]>>4)*4:]}, packet[13]&2 != 0, true
}
