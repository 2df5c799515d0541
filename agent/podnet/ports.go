package podnet

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// portSet is a set of ports as net.ipv4.ip_local_reserved_ports writes it: "8080,9000-9010".
type portSet [1 << 16 / 64]uint64

func (s *portSet) add(port uint16)      { s[port/64] |= 1 << (port % 64) }
func (s *portSet) remove(port uint16)   { s[port/64] &^= 1 << (port % 64) }
func (s *portSet) has(port uint16) bool { return s[port/64]&(1<<(port%64)) != 0 }

func (s *portSet) len() int {
	n := 0
	for _, word := range s {
		n += bits.OnesCount64(word)
	}
	return n
}

func parsePorts(text string) (*portSet, error) {
	s := new(portSet)
	for part := range strings.SplitSeq(strings.TrimSpace(text), ",") {
		if part == "" {
			continue
		}
		first, last, isRange := strings.Cut(part, "-")
		low, err := strconv.ParseUint(first, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("ports %.64q: %w", part, err)
		}
		high := low
		if isRange {
			if high, err = strconv.ParseUint(last, 10, 16); err != nil {
				return nil, fmt.Errorf("ports %.64q: %w", part, err)
			}
		}
		if high < low {
			return nil, fmt.Errorf("ports %.64q: the range is backwards", part)
		}
		for p := low; p <= high; p++ {
			s.add(uint16(p))
		}
	}
	return s, nil
}

func (s *portSet) String() string {
	var parts []string
	for p := 0; p < 1<<16; p++ {
		if !s.has(uint16(p)) {
			continue
		}
		first := p
		for p+1 < 1<<16 && s.has(uint16(p+1)) {
			p++
		}
		if first == p {
			parts = append(parts, strconv.Itoa(first))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", first, p))
		}
	}
	return strings.Join(parts, ",")
}
