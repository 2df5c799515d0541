package kube

import (
	"sync"

	"k8s.io/client-go/tools/cache"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// pending are the names of objects that changed since they were last delivered, in the order in which they first did. It holds no
// objects, so a receiver that is slow costs a name for each, however often it changes.
type pending struct {
	mu    sync.Mutex
	kinds map[objects.Kind]*names
	wake  chan struct{} // holds one token once there is something to take
}

type names struct {
	order []cache.ObjectName
	in    map[cache.ObjectName]struct{}
}

func newPending() *pending {
	return &pending{kinds: map[objects.Kind]*names{}, wake: make(chan struct{}, 1)}
}

func (p *pending) add(kind objects.Kind, name cache.ObjectName) {
	p.mu.Lock()
	n := p.kinds[kind]
	if n == nil {
		n = &names{in: map[cache.ObjectName]struct{}{}}
		p.kinds[kind] = n
	}
	if _, ok := n.in[name]; !ok {
		n.in[name] = struct{}{}
		n.order = append(n.order, name)
	}
	p.mu.Unlock()
	p.poke()
}

func (p *pending) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// take empties the list of a kind.
func (p *pending) take(kind objects.Kind) []cache.ObjectName {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.kinds[kind]
	if n == nil {
		return nil
	}
	delete(p.kinds, kind)
	return n.order
}
