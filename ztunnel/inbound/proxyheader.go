package inbound

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
)

// tlvPeer is the type of the value that carries the peer's identity (ztunnel.md 2.9).
const tlvPeer = 0xD0

// writeProxyHeader tells an application that is itself a proxy who is at the other end, before any payload.
func writeProxyHeader(w io.Writer, client, meant netip.AddrPort, peer spiffe.ID) error {
	if _, err := w.Write(appendProxyHeader(nil, client, meant, peer)); err != nil {
		return fmt.Errorf("PROXY header: %w", err)
	}
	return nil
}

// appendProxyHeader appends a PROXY protocol v2 header: command PROXY, STREAM, both addresses, and the peer's identity
// where there is one. Addresses of different families are written as IPv6.
func appendProxyHeader(b []byte, client, meant netip.AddrPort, peer spiffe.ID) []byte {
	b = append(b, "\r\n\r\n\x00\r\nQUIT\n"...) // the signature
	b = append(b, 0x21)                        // version 2, PROXY
	four := client.Addr().Is4() && meant.Addr().Is4()
	if four {
		b = append(b, 0x11) // TCP over IPv4
	} else {
		b = append(b, 0x21) // TCP over IPv6
	}
	at := len(b)
	b = append(b, 0, 0)
	for _, a := range []netip.Addr{client.Addr(), meant.Addr()} {
		if four {
			ip := a.As4()
			b = append(b, ip[:]...)
		} else {
			ip := a.As16()
			b = append(b, ip[:]...)
		}
	}
	b = binary.BigEndian.AppendUint16(b, client.Port())
	b = binary.BigEndian.AppendUint16(b, meant.Port())
	if id := peer.String(); id != "" {
		b = append(b, tlvPeer)
		b = binary.BigEndian.AppendUint16(b, uint16(len(id)))
		b = append(b, id...)
	}
	binary.BigEndian.PutUint16(b[at:], uint16(len(b)-at-2))
	return b
}
