package xds

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/ambit-mesh/ambit/controller/api/workload"
)

// entry is one resource, or the memory of one that is gone. Entries are immutable but for seq and links.
type entry struct {
	name    string
	version string // hash of the content: the same in every process
	frame   []byte // as it stands in a response; shared by all clients
	header  uint8  // length of the frame's tag and length
	gone    bool
	slot    uint32 // in contents
	seq     uint64 // when it became what it is

	aliases  []string // network/ip
	services []string // of a workload: those it is an endpoint of
	node     string   // of a workload
	scoped   *scoped  // of a policy; nil of all else

	older, newer *entry
}

// newEntry is a resource encoded once for all clients. content is copied.
func newEntry(typeURL, name string, content []byte) *entry {
	sum := sha256.Sum256(content)
	e := &entry{name: name, version: hex.EncodeToString(sum[:8])}
	e.frame, e.header = resourceFrame(typeURL, name, e.version, content)
	return e
}

// describe notes by what else than its name an address can be asked for.
func describe(e *entry, a *workload.Address) {
	if w := a.GetWorkload(); w != nil {
		for _, ip := range w.Addresses {
			e.aliases = append(e.aliases, alias(w.Network, ip))
		}
		for svc := range w.Services {
			e.services = append(e.services, svc)
		}
		e.node = w.Node
	}
	for _, na := range a.GetService().GetAddresses() {
		name := alias(na.Network, na.Address)
		if na.Length != nil {
			name += "/" + strconv.FormatUint(uint64(na.GetLength()), 10)
		}
		e.aliases = append(e.aliases, name)
	}
}

func alias(network string, ip []byte) string {
	a, _ := netip.AddrFromSlice(ip)
	return network + "/" + a.String()
}

// resourceFrame encodes field 2 of a DeltaDiscoveryResponse: Resource{version 1, resource 2 (Any), name 3}. header is the
// length of what precedes the Resource itself.
func resourceFrame(typeURL, name, version string, content []byte) (frame []byte, header uint8) {
	anySize := protowire.SizeTag(1) + protowire.SizeBytes(len(typeURL)) + protowire.SizeTag(2) + protowire.SizeBytes(len(content))
	size := protowire.SizeTag(1) + protowire.SizeBytes(len(version)) + protowire.SizeTag(2) + protowire.SizeBytes(anySize) +
		protowire.SizeTag(3) + protowire.SizeBytes(len(name))
	header = uint8(protowire.SizeTag(2) + protowire.SizeVarint(uint64(size)))
	b := make([]byte, 0, int(header)+size)
	b = protowire.AppendVarint(protowire.AppendTag(b, 2, protowire.BytesType), uint64(size))
	b = appendString(b, 1, version)
	b = protowire.AppendVarint(protowire.AppendTag(b, 2, protowire.BytesType), uint64(anySize))
	b = appendString(b, 1, typeURL)
	b = protowire.AppendBytes(protowire.AppendTag(b, 2, protowire.BytesType), content)
	return appendString(b, 3, name), header
}

// withAliases is the frame with the names by which the resource was asked for: field 4 of Resource.
func (e *entry) withAliases() []byte {
	if len(e.aliases) == 0 {
		return e.frame
	}
	inner := append([]byte(nil), e.frame[e.header:]...)
	for _, a := range e.aliases {
		inner = appendString(inner, 4, a)
	}
	return protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), inner)
}

func appendString(b []byte, field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

// index finds entries by something that several have in common.
type index map[string]map[*entry]struct{}

func (x index) put(key string, e *entry) {
	if x[key] == nil {
		x[key] = map[*entry]struct{}{}
	}
	x[key][e] = struct{}{}
}

func (x index) drop(key string, e *entry) {
	delete(x[key], e)
	if len(x[key]) == 0 {
		delete(x, key)
	}
}
