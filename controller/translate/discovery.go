package translate

import (
	"maps"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// discovered reports whether a namespace exists for the mesh. The root namespace always does: without its policies more would
// be allowed.
func (t *Translator) discovered(namespace string) bool {
	return namespace == "" || len(t.mesh.discover) == 0 || namespace == t.set.RootNamespace || namespace == t.meshKey().Namespace ||
		t.mesh.discovers(t.spaceLabels(namespace))
}

// put stores one change. Objects of namespaces that are not discovered are kept aside, where nothing finds them.
func (t *Translator) put(c objects.Change) {
	if !t.discovered(c.Key.Namespace) {
		t.in.hide(c.Key, c.Object)
		return
	}
	t.replace(c.Key, c.Object)
	switch c.Key.Kind {
	case objects.Namespace:
		if !t.effective().equal(t.set) { // the root namespace names the network
			t.configure()
		}
		t.reveal(c.Key.Name)
	case objects.ConfigMap:
		if c.Key == t.meshKey() {
			t.readMesh(c.Object)
			t.configure()
			t.dirtyAll()
		}
	}
}

// replace puts an object in the place of the one of that name, marking who reads either.
func (t *Translator) replace(key objects.Key, o objects.Object) {
	old := t.in.objs[key]
	if old != nil && o != nil && alike(old, o) {
		t.in.objs[key] = o
		t.dirty.add(key)
		return
	}
	if old != nil {
		t.mark(key, old)
		t.in.remove(t.set, key, old)
	}
	if o != nil {
		t.in.add(t.set, key, o)
		t.mark(key, o)
	}
}

// configure makes the settings anew, and what follows from them.
func (t *Translator) configure() {
	next := t.effective()
	if !next.equal(t.set) {
		t.set = next
		t.dirtyAll()
	}
	for ns := range t.in.inSpace {
		t.reveal(ns)
	}
	for ns := range t.in.hidden {
		t.reveal(ns)
	}
}

// reveal hides a namespace's objects, or brings them forth.
func (t *Translator) reveal(namespace string) {
	if namespace == "" {
		return
	}
	if t.discovered(namespace) {
		objs := t.in.hidden[namespace]
		delete(t.in.hidden, namespace)
		for key, o := range objs {
			t.replace(key, o)
		}
		return
	}
	for key := range maps.Clone(t.in.inSpace[namespace]) {
		o := t.in.objs[key]
		t.replace(key, nil)
		t.in.hide(key, o)
	}
}

// hide keeps an object aside; nil removes it.
func (in *inputs) hide(key objects.Key, o objects.Object) {
	objs := in.hidden[key.Namespace]
	if o == nil {
		delete(objs, key)
		if len(objs) == 0 {
			delete(in.hidden, key.Namespace)
		}
		return
	}
	if objs == nil {
		objs = map[objects.Key]objects.Object{}
		in.hidden[key.Namespace] = objs
	}
	objs[key] = o
}

// dirtyAll marks every unit.
func (t *Translator) dirtyAll() {
	t.dirty.add(staticStrictUnit)
	for key := range t.in.objs {
		t.dirty.add(key)
	}
}
