package translate

import (
	"fmt"
	"testing"

	"github.com/ambit-mesh/ambit/controller/objects"
)

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
