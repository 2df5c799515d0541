package translate

import (
	"slices"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// claims are the Services and ServiceEntries that claim a host name, the best claim first: thousands of namespaces may each
// have an entry for the same popular host, and who holds it is asked for each of them.
type claims map[string][]objects.Key

// hostsOf are the names that o claims. A Service that is only another name for an external host claims none: it is not
// published, so an entry may be.
func hostsOf(s Settings, o objects.Object) []string {
	switch o := o.(type) {
	case *corev1.Service:
		if o.Spec.Type != corev1.ServiceTypeExternalName {
			return []string{hostname(s, o)}
		}
	case *networkingv1.ServiceEntry:
		return o.Spec.Hosts
	}
	return nil
}

// claim notes claims of an object that is among objs.
func (in *inputs) claim(key objects.Key, hosts []string) {
	for _, h := range hosts {
		at, found := slices.BinarySearchFunc(in.claims[h], key, func(a, b objects.Key) int {
			switch {
			case a == b:
				return 0
			case in.claimBefore(a, b):
				return -1
			default:
				return 1
			}
		})
		if !found { // else the object names the host twice
			in.claims[h] = slices.Insert(in.claims[h], at, key)
		}
	}
}

func (in *inputs) unclaim(key objects.Key, hosts []string) {
	for _, h := range hosts {
		list := slices.DeleteFunc(in.claims[h], func(k objects.Key) bool { return k == key })
		store(in.claims, h, list, len(list) == 0)
	}
}

func (in *inputs) claimBefore(a, b objects.Key) bool {
	if a.Kind != b.Kind {
		return a.Kind == objects.Service
	}
	return in.older(a, b)
}

// older orders by creation, then by key.
func (in *inputs) older(a, b objects.Key) bool {
	x, y := in.objs[a].GetCreationTimestamp(), in.objs[b].GetCreationTimestamp()
	if !x.Equal(&y) {
		return x.Before(&y)
	}
	return a.Compare(b) < 0
}

// winner is who holds a host name within a namespace: the Kubernetes Service of that name, or else the oldest ServiceEntry.
func (t *Translator) winner(namespace, host string) objects.Key {
	return t.best(host, func(k objects.Key) bool { return k.Namespace == namespace && t.mayHold(k, host) })
}

// canonical is whom a host name means to other namespaces: the Service of that name, or else the oldest entry that all may see.
func (t *Translator) canonical(host string) objects.Key {
	return t.best(host, func(k objects.Key) bool { return t.scopeOf(k) == public && t.mayHold(k, host) })
}

// mayHold: an entry that would not publish the name keeps nobody else from it.
func (t *Translator) mayHold(key objects.Key, host string) bool {
	se, ok := t.in.objs[key].(*networkingv1.ServiceEntry)
	return !ok || t.publishes(key, se, host)
}

func (t *Translator) best(host string, admit func(objects.Key) bool) objects.Key {
	for _, key := range t.in.claims[host] {
		if admit(key) {
			return key
		}
	}
	return objects.Key{}
}

// markClaims marks who may win or lose a host name by a change in a namespace: its claimants there, with the workloads behind
// them, and the one elsewhere whom the name means to other namespaces unless it means one of these.
func (t *Translator) markClaims(namespace, host string) {
	for _, key := range t.in.claims[host] {
		if key.Namespace != namespace {
			continue
		}
		t.dirty.add(key)
		if se, ok := t.in.objs[key].(*networkingv1.ServiceEntry); ok {
			t.markTargets(key.Namespace, se.Spec.GetWorkloadSelector().GetLabels())
		}
	}
	if key := t.best(host, func(k objects.Key) bool {
		return k.Namespace != namespace && t.scopeOf(k) == public && t.mayHold(k, host)
	}); key.Name != "" {
		t.dirty.add(key)
	}
}
