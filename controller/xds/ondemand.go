package xds

// Clients that do not want everything name what they want: a workload's uid, a service's namespace/hostname, or
// network/address of either. A service brings its workloads along, and the workloads of the client's own node always come.
//
// Istio's ztunnel waits for exactly the name it asked for: an address is answered with the resources that have it, under their
// own names, and then with the removal of the address as a name, which releases the wait. Removals are applied after updates,
// and no resource is called by its address, so nothing is lost by it.

// onNode is the first answer to such a client.
func (s *session) onNode(k *kind, sub *subscription, r *response) {
	if s.node == "" {
		return
	}
	for e := range k.byNode[s.node] {
		s.give(sub, r, e)
	}
}

// give sends e unless the client holds it.
func (s *session) give(sub *subscription, r *response, e *entry) {
	if sub.held[e.name] {
		return
	}
	sub.held[e.name] = true
	if sub.initial[e.name] != e.version {
		r.add(e.withAliases())
	}
}

// answer looks up the names asked for since the last response. What does not exist is answered as removed: the client waits.
func (s *session) answer(k *kind, sub *subscription, r *response) {
	for _, name := range sub.ask {
		if !sub.names[name] {
			continue // taken back meanwhile
		}
		found := s.find(k, name)
		if e := k.entries[name]; e == nil || e.gone {
			r.removed = append(r.removed, name)
		}
		for _, e := range found {
			if sub.wildcard {
				r.add(e.withAliases()) // asked for again on purpose
				continue
			}
			s.give(sub, r, e)
			if len(k.byService[e.name]) > 0 || e.isService() {
				sub.services[e.name] = true
				for w := range k.byService[e.name] {
					s.give(sub, r, w)
				}
			}
		}
	}
	sub.ask = nil
}

// find is a uid or service name, or else every resource with that address.
func (s *session) find(k *kind, name string) []*entry {
	if e := k.entries[name]; e != nil && !e.gone {
		return []*entry{e}
	}
	return k.byAlias[name]
}

// isService: only workloads have the long form of name, and only they are endpoints.
func (e *entry) isService() bool {
	slashes := 0
	for i := range len(e.name) {
		if e.name[i] == '/' {
			slashes++
		}
	}
	return slashes == 1
}

// wantedSince is what changed for a client that named what it wants.
func (s *session) wantedSince(k *kind, sub *subscription, r *response, what extent) {
	removals := what == all
	if what != unnarrowed {
		sub.postponed(k, r)
	}
	for e := k.newest; e != nil && (e.seq > sub.upserts || e.seq > sub.removals); e = e.older {
		switch {
		case e.gone && removals && e.seq > sub.removals && (sub.held[e.name] || sub.names[e.name]):
			delete(sub.held, e.name)
			r.removed = append(r.removed, e.name)
		case !e.gone && e.seq > sub.upserts && s.wants(sub, e) && (what != unnarrowed || !sub.postpones(e)):
			sub.held[e.name] = true
			r.add(e.withAliases())
			if e.isService() && (sub.names[e.name] || named(sub, e)) && !sub.services[e.name] {
				sub.services[e.name] = true
				for w := range k.byService[e.name] {
					s.give(sub, r, w)
				}
			}
		}
	}
}

func (s *session) wants(sub *subscription, e *entry) bool {
	if sub.held[e.name] || sub.names[e.name] || e.node != "" && e.node == s.node || named(sub, e) {
		return true
	}
	for _, svc := range e.services {
		if sub.services[svc] {
			return true
		}
	}
	return false
}

func named(sub *subscription, e *entry) bool {
	for _, a := range e.aliases {
		if sub.names[a] {
			return true
		}
	}
	return false
}
