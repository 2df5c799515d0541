package translate

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// TestRecordedPoolIsBounded: whatever statuses say, looking for a free slot ends.
func TestRecordedPoolIsBounded(t *testing.T) {
	if slot := slotOf(vip(vipSlots + 1).addresses()[0]); slot != 0 {
		t.Errorf("the last address of the block is slot %d", slot)
	}
	full := map[vip]int{}
	for i := range vipSlots {
		full[vip(i+1)] = 1
	}
	want := []vipKey{{objects.Key{Name: "a"}, "a"}, {objects.Key{Name: "b"}, "b"}}
	if got := assign(want, full); len(got) != 0 {
		t.Errorf("from a full pool: %v", got)
	}
	delete(full, 7)
	if got := assign(want, full); len(got) != 1 || got[want[0]] != 7 {
		t.Errorf("with one slot left: %v", got)
	}
}

// TestHostAddedToRecordedEntry: the new host gets an address, and the old one keeps its own.
func TestHostAddedToRecordedEntry(t *testing.T) {
	doc := strings.Replace(entry("a", ", status: {addresses: [{host: a.example, value: 240.240.1.1}]}"), "[a.example]", "[a.example, new.example]", 1)
	tr := New(Settings{})
	var fresh, kept int
	for _, st := range tr.Apply(parse(t, "a", []byte(doc))).Statuses {
		for _, a := range st.Addresses {
			switch a.Host {
			case "new.example":
				fresh++
			case "a.example":
				if kept++; a.Value != "240.240.1.1" {
					t.Errorf("the old host moved to %s", a.Value)
				}
			}
		}
	}
	if fresh != 2 || kept != 1 {
		t.Errorf("%d addresses of the new host and %d of the old one", fresh, kept)
	}
}

// TestRecordedAddressesCostNothing: what is looked at to allocate is the entries without addresses, however many have theirs.
func TestRecordedAddressesCostNothing(t *testing.T) {
	tr := New(Settings{})
	for i := range 300 {
		name := fmt.Sprint("e", i)
		tr.Apply(parse(t, name, []byte(entry(name, fmt.Sprintf(", status: {addresses: [{host: %s.example, value: 240.240.2.%d}]}", name, i%250+1)))))
	}
	tr.Apply(parse(t, "new", []byte(entry("new", ""))))
	if n := len(tr.in.vips.wanting); n != 1 {
		t.Errorf("%d entries are looked at for one without addresses", n)
	}
	for _, c := range parse(t, "e1", []byte(entry("e1", ", status: {addresses: [{host: e1.example, value: 240.240.2.2}], observedGeneration: 7}"))) {
		tr.put(c)
	}
	if tr.in.vips.stale {
		t.Error("addresses are allocated anew though no host and no address changed")
	}
}

func entry(name, status string) string {
	return fmt.Sprintf("{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: %s, namespace: shop}, spec: {hosts: [%s.example], resolution: DNS, ports: [{number: 80, name: http}]}%s}", name, name, status)
}

// TestRecordedAddressesStay: an address that an entry's status holds is nobody else's, and the entry keeps it when others go.
func TestRecordedAddressesStay(t *testing.T) {
	key := func(name string) objects.Key {
		return objects.Key{Kind: objects.ServiceEntry, Namespace: "shop", Name: name}
	}
	fresh := New(Settings{}).Apply(parse(t, "alone", []byte(entry("b", "")))).Statuses[key("b")].Addresses
	if len(fresh) != 2 {
		t.Fatalf("allocated: %v", fresh)
	}
	taken := fmt.Sprintf(", status: {addresses: [{host: a.example, value: %q}, {host: a.example, value: %q}]}", fresh[0].Value, fresh[1].Value)
	tr := New(Settings{})
	got := tr.Apply(append(parse(t, "a", []byte(entry("a", taken))), parse(t, "b", []byte(entry("b", "")))...)).Statuses
	if a := got[key("a")].Addresses; len(a) != 2 || a[0].Value != fresh[0].Value || a[1].Value != fresh[1].Value {
		t.Errorf("recorded %v, now %v", fresh, a)
	}
	moved := got[key("b")].Addresses
	if len(moved) != 2 || moved[0].Value == fresh[0].Value {
		t.Fatalf("two entries have %v", moved)
	}
	recorded := fmt.Sprintf(", status: {addresses: [{host: b.example, value: %q}, {host: b.example, value: %q}]}", moved[0].Value, moved[1].Value)
	tr.Apply(parse(t, "recorded", []byte(entry("b", recorded))))
	if d := tr.Apply([]objects.Change{{Key: key("a")}}); len(d.Statuses[key("b")].Addresses) != 0 {
		t.Errorf("the other entry's end moved it to %v", d.Statuses[key("b")].Addresses)
	}
}
