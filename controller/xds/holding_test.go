package xds

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/mem"

	"github.com/ambit-mesh/ambit/controller/api/workload"
)

// counted is a pool that knows how many of its buffers are out, and spoils those that come back.
type counted struct{ out int }

func (c *counted) Get(n int) *[]byte {
	c.out++
	b := make([]byte, n)
	return &b
}

func (c *counted) Put(b *[]byte) {
	c.out--
	clear(*b)
}

// received is a request as gRPC hands it over: in buffers of a pool, which it takes back once the codec has returned.
func (c *counted) received(t *testing.T, versions map[string]string) *request {
	t.Helper()
	var data mem.BufferSlice
	head := appendString(nil, 2, workload.AddressTypeURL)
	for _, piece := range append(mem.BufferSlice{mem.SliceBuffer(head)}, listOf(versions, 2000)...) {
		b := c.Get(2000)
		*b = (*b)[:copy(*b, piece.ReadOnlyData())]
		data = append(data, mem.NewBuffer(b, c))
	}
	r := &request{}
	if err := Codec().Unmarshal(data, r); err != nil {
		t.Fatal(err)
	}
	data.Free()
	return r
}

// TestListsAreGivenBack: a list is read in gRPC's own buffers, so these are kept until it was held against the table and given back
// then, once.
func TestListsAreGivenBack(t *testing.T) {
	tab, pool := NewTable(), &counted{}
	versions := map[string]string{}
	for i := range 200 {
		name := fmt.Sprint("w", i)
		publish(t, tab, name)
		versions[name] = tab.kinds[workload.AddressTypeURL].entries[name].version
	}
	versions["w7"], versions["gone"] = "old", "1"
	s := newSession(node{node: "n1"})
	if _, err := s.request(pool.received(t, versions), epoch); err != nil {
		t.Fatal(err)
	}
	if pool.out == 0 {
		t.Fatal("the list was given back before it was read")
	}
	r, _, err := s.next(tab, epoch.Add(grace))
	if err != nil || r == nil {
		t.Fatalf("no answer: %v", err)
	}
	if len(r.frames) != 1 || len(r.removed) != 1 || r.removed[0] != "gone" {
		t.Errorf("%d resources sent, %q removed", len(r.frames), r.removed)
	}
	if pool.out != 0 {
		t.Errorf("%d buffers kept after the answer", pool.out)
	}
	again := pool.received(t, versions) // only the first request of a type may bring a list: this one is passed over
	if _, err := s.request(again, epoch); err != nil {
		t.Fatal(err)
	}
	if pool.out != 0 {
		t.Errorf("%d buffers of a list that is not used are kept", pool.out)
	}
	if _, err := newSession(node{}).request(pool.named(t, versions), epoch); err != nil {
		t.Fatal(err)
	}
	if pool.out != 0 {
		t.Errorf("%d buffers of a client that asks by name are kept", pool.out)
	}
}

// named is the same of a client that asks by name.
func (c *counted) named(t *testing.T, versions map[string]string) *request {
	t.Helper()
	r := c.received(t, versions)
	r.subscribe, r.unsubscribe = []string{"*"}, []string{"*"}
	return r
}

// TestEntryHash: the hash does not depend on how an entry is encoded, nor on where names and versions meet.
func TestEntryHash(t *testing.T) {
	long := fmt.Sprintf("%0200d", 1)
	for _, e := range []struct {
		data          []byte
		name, version string
	}{
		{appendString(appendString(nil, 1, "a"), 2, "1"), "a", "1"},
		{appendString(appendString(nil, 2, "1"), 1, "a"), "a", "1"},
		{appendString(appendString(appendString(nil, 1, "b"), 1, "a"), 2, "1"), "a", "1"},
		{appendString(nil, 1, "a"), "a", ""},
		{nil, "", ""},
		{appendString(appendString(nil, 1, long), 2, long), long, long},
		{appendString(appendString(nil, 2, "é"), 1, long), long, "é"},
	} {
		name, version, hash, err := heldEntry(e.data)
		if err != nil || string(name) != e.name || string(version) != e.version || hash != hashPair(e.name, e.version) {
			t.Errorf("%q: %q %q %v", e.data, name, version, err)
		}
	}
	if hashPair("ab", "c") == hashPair("a", "bc") {
		t.Error("the border between name and version is not part of the hash")
	}
	for _, bad := range [][]byte{
		appendString(appendString(nil, 1, "\xc3"), 2, "1"), appendString(appendString(nil, 1, "a"), 2, "\xff"), appendString(appendString(nil, 2, "1"), 1, "\xff"), {0x0a, 5, 'a'},
	} {
		if _, _, _, err := heldEntry(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
