package xds

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/ambit-mesh/ambit/controller/api/authz"
	"github.com/ambit-mesh/ambit/controller/api/workload"
)

// minGone is how many removals are remembered at least, for clients that are behind.
const minGone = 10_000

// entry is one resource, or the memory of one that is gone. Entries are immutable but for their links.
type entry struct {
	name    string
	version string // hash of the content: the same in every process
	frame   []byte // as it stands in a response; shared by all clients
	header  int    // length of the frame's tag and length
	seq     uint64 // when it became what it is
	gone    bool

	aliases  []string // network/ip
	services []string // of a workload: those it is an endpoint of
	node     string   // of a workload

	older, newer *entry
}

// kind is the resources of one type, linked in the order in which they changed last. A client that knows the sequence number
// up to which it was told finds what is new from the end, however long it was away: there is no queue to grow.
type kind struct {
	typeURL        string
	entries        map[string]*entry
	oldest, newest *entry
	live, gone     int
	floor          uint64 // removals up to here are forgotten
	byAlias        map[string]map[string]*entry
	byService      map[string]map[string]*entry
	byNode         map[string]map[string]*entry
}

// Table is every resource there is. Publish writes, sessions read; it is safe for concurrent use.
type Table struct {
	mu      sync.RWMutex
	seq     uint64
	at      time.Time // of seq
	kinds   map[string]*kind
	changed chan struct{} // closed and replaced at every change
}

// NewTable makes a table without resources. Clients are not answered before the first Publish.
func NewTable() *Table {
	t := &Table{kinds: map[string]*kind{}, changed: make(chan struct{})}
	for _, url := range []string{workload.AddressTypeURL, authz.TypeURL} {
		t.kinds[url] = &kind{
			typeURL: url, entries: map[string]*entry{}, byAlias: map[string]map[string]*entry{},
			byService: map[string]map[string]*entry{}, byNode: map[string]map[string]*entry{},
		}
	}
	return t
}

// Publish replaces resources, or removes those that are nil, and wakes every client. The messages must not change any more.
// now is when the change happened, for the convergence metric.
func (t *Table) Publish(addresses map[string]*workload.Address, policies map[string]*authz.Authorization, now time.Time) error {
	var fresh []*entry
	for name, a := range addresses {
		e, err := newEntry(workload.AddressTypeURL, name, a, a == nil)
		if err != nil {
			return err
		}
		describe(e, a)
		fresh = append(fresh, e)
	}
	policiesFrom := len(fresh)
	for name, p := range policies {
		e, err := newEntry(authz.TypeURL, name, p, p == nil)
		if err != nil {
			return err
		}
		fresh = append(fresh, e)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seq++
	t.at = now
	for i, e := range fresh {
		e.seq = t.seq
		if i < policiesFrom {
			t.kinds[workload.AddressTypeURL].replace(e)
		} else {
			t.kinds[authz.TypeURL].replace(e)
		}
	}
	for _, k := range t.kinds {
		k.forget()
	}
	close(t.changed)
	t.changed = make(chan struct{})
	return nil
}

// watch returns a channel that is closed at the next change, and whether there was one.
func (t *Table) watch() (changed <-chan struct{}, ready bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.changed, t.seq > 0
}

// Counts is how many resources there are, by type URL.
func (t *Table) Counts() map[string]int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := map[string]int{}
	for url, k := range t.kinds {
		out[url] = k.live
	}
	return out
}

// newEntry encodes a resource once for all clients.
func newEntry(typeURL, name string, m proto.Message, gone bool) (*entry, error) {
	if gone {
		return &entry{name: name, gone: true}, nil
	}
	content, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", name, err)
	}
	sum := sha256.Sum256(content)
	e := &entry{name: name, version: hex.EncodeToString(sum[:8])}
	e.frame, e.header = resourceFrame(typeURL, name, e.version, content)
	return e, nil
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
			name += fmt.Sprintf("/%d", na.GetLength())
		}
		e.aliases = append(e.aliases, name)
	}
}

func alias(network string, ip []byte) string {
	a, _ := netip.AddrFromSlice(ip)
	return network + "/" + a.String()
}

// replace puts e in the place of the entry of its name, as the newest.
func (k *kind) replace(e *entry) {
	old := k.entries[e.name]
	if old == nil && e.gone {
		return
	}
	if old != nil {
		k.unlink(old)
	}
	k.entries[e.name] = e
	e.older = k.newest
	if k.newest != nil {
		k.newest.newer = e
	} else {
		k.oldest = e
	}
	k.newest = e
	if e.gone {
		k.gone++
		return
	}
	k.live++
	for _, a := range e.aliases {
		put(k.byAlias, a, e)
	}
	for _, s := range e.services {
		put(k.byService, s, e)
	}
	if e.node != "" {
		put(k.byNode, e.node, e)
	}
}

func (k *kind) unlink(e *entry) {
	if e.older != nil {
		e.older.newer = e.newer
	} else {
		k.oldest = e.newer
	}
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		k.newest = e.older
	}
	if e.gone {
		k.gone--
		return
	}
	k.live--
	for _, a := range e.aliases {
		drop(k.byAlias, a, e)
	}
	for _, s := range e.services {
		drop(k.byService, s, e)
	}
	drop(k.byNode, e.node, e)
}

// forget bounds the memory of removals. Clients that needed a forgotten one have to reconnect.
func (k *kind) forget() {
	for e := k.oldest; e != nil && k.gone > max(minGone, k.live); {
		next := e.newer
		if e.gone {
			k.unlink(e)
			delete(k.entries, e.name)
			k.floor = e.seq
		}
		e = next
	}
}

func put(m map[string]map[string]*entry, key string, e *entry) {
	if m[key] == nil {
		m[key] = map[string]*entry{}
	}
	m[key][e.name] = e
}

func drop(m map[string]map[string]*entry, key string, e *entry) {
	delete(m[key], e.name)
	if len(m[key]) == 0 {
		delete(m, key)
	}
}

// resourceFrame encodes field 2 of a DeltaDiscoveryResponse: Resource{version 1, resource 2 (Any), name 3}. header is the
// length of what precedes the Resource itself.
func resourceFrame(typeURL, name, version string, content []byte) (frame []byte, header int) {
	anySize := protowire.SizeTag(1) + protowire.SizeBytes(len(typeURL)) + protowire.SizeTag(2) + protowire.SizeBytes(len(content))
	size := protowire.SizeTag(1) + protowire.SizeBytes(len(version)) + protowire.SizeTag(2) + protowire.SizeBytes(anySize) +
		protowire.SizeTag(3) + protowire.SizeBytes(len(name))
	header = protowire.SizeTag(2) + protowire.SizeVarint(uint64(size))
	b := make([]byte, 0, header+size)
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
