package inbound

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"testing"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
)

// The bytes of the PROXY protocol, version 2 (haproxy's proxy-protocol.txt, section 2.2), with Istio's value for the peer.
func TestProxyHeader(t *testing.T) {
	const signature = "0d0a0d0a000d0a515549540a"
	peer := spiffe.ID{TrustDomain: "td", Namespace: "n", ServiceAccount: "a"}
	for _, tc := range []struct {
		name, client, meant string
		peer                spiffe.ID
		want                string
	}{
		{"IPv4", "10.0.0.1:258", "10.0.0.2:80", spiffe.ID{}, signature + "2111" + "000c" + "0a000001" + "0a000002" + "0102" + "0050"},
		{"IPv6", "[fd00::1]:1", "[fd00::2]:2", spiffe.ID{}, signature + "2121" + "0024" +
			"fd000000000000000000000000000001" + "fd000000000000000000000000000002" + "0001" + "0002"},
		{"mixed", "10.0.0.1:1", "[fd00::2]:2", spiffe.ID{}, signature + "2121" + "0024" +
			"00000000000000000000ffff0a000001" + "fd000000000000000000000000000002" + "0001" + "0002"},
		{"peer", "10.0.0.1:258", "10.0.0.2:80", peer, signature + "2111" + "0024" + "0a000001" + "0a000002" + "0102" + "0050" +
			"d0" + "0015" + hex.EncodeToString([]byte("spiffe://td/ns/n/sa/a"))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out bytes.Buffer
			if err := writeProxyHeader(&out, netip.MustParseAddrPort(tc.client), netip.MustParseAddrPort(tc.meant), tc.peer); err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(out.Bytes()); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}
