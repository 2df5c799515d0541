package translate

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// group is the targets of one namespace that have the same labels, as replicas do. Selectors are held against groups, so that
// finding what a selector selects costs work for what it finds, and an index of labels costs little memory for each target.
type group struct {
	labels  map[string]string
	members set[objects.Key]
}

// groupKey names a group by what its members have in common.
type groupKey struct {
	namespace string
	labels    string // encoded
}

// groups finds targets by their labels.
type groups struct {
	all    map[groupKey]*group
	having multi[pair, *group] // by each label in their namespace, and in the empty one, which stands for all
}

func newGroups() groups { return groups{map[groupKey]*group{}, multi[pair, *group]{}} }

// put adds a target. labels must not change any more.
func (g *groups) put(key objects.Key, labels map[string]string) {
	if len(labels) == 0 {
		return // no selector finds it
	}
	name := groupKey{key.Namespace, encodeLabels(labels)}
	m := g.all[name]
	if m == nil {
		m = &group{labels, set[objects.Key]{}}
		g.all[name] = m
		for k, v := range labels {
			g.having.put(pair{key.Namespace, k, v}, m)
			g.having.put(pair{"", k, v}, m)
		}
	}
	m.members.add(key)
}

// drop removes a target that was put with these labels.
func (g *groups) drop(key objects.Key, labels map[string]string) {
	name := groupKey{key.Namespace, encodeLabels(labels)}
	m := g.all[name]
	if m == nil {
		return
	}
	delete(m.members, key)
	if len(m.members) > 0 {
		return
	}
	delete(g.all, name)
	for k, v := range labels {
		g.having.drop(pair{key.Namespace, k, v}, m)
		g.having.drop(pair{"", k, v}, m)
	}
}

// selected calls yield for every target in namespace, or in all if that is empty, that the selector matches.
func (g *groups) selected(namespace string, selector map[string]string, yield func(objects.Key)) {
	p, ok := firstPair(namespace, selector)
	if !ok {
		return
	}
	for m := range g.having[p] {
		if matches(selector, m.labels) {
			for key := range m.members {
				yield(key)
			}
		}
	}
}

func encodeLabels(labels map[string]string) string {
	var b []byte
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		b = append(binary.AppendUvarint(b, uint64(len(k))), k...)
		b = append(binary.AppendUvarint(b, uint64(len(labels[k]))), labels[k]...)
	}
	return string(b)
}
