package xds

import (
	"slices"
	"sync"
	"time"

	"github.com/ambit-mesh/ambit/controller/api/authz"
	"github.com/ambit-mesh/ambit/controller/api/workload"
)

// types are those served, in the order of a Batch's lists.
var types = [...]string{workload.AddressTypeURL, authz.TypeURL}

// minGone is how many removals are remembered at least, for clients that are behind.
const minGone = 10_000

// kind is the resources of one type, linked in the order in which they changed last. A client that knows the sequence number
// up to which it was told finds what is new from the end, however long it was away: there is no queue to grow.
type kind struct {
	typeURL        string
	entries        map[string]*entry
	oldest, newest *entry
	live, gone     int
	floor          uint64              // removals up to here are forgotten
	byAlias        map[string][]*entry // network/ip: hardly ever more than one
	byService      index
	byNode         index
	whole          whole
	contents       contents
}

// Table is every resource there is. Commit writes, sessions read; it is safe for concurrent use.
type Table struct {
	mu      sync.RWMutex
	seq     uint64
	at      time.Time // of seq
	kinds   map[string]*kind
	changed chan struct{} // closed and replaced at every change
}

// NewTable makes a table without resources. Clients are not answered before the first Commit.
func NewTable() *Table {
	t := &Table{kinds: map[string]*kind{}, changed: make(chan struct{})}
	for _, url := range types {
		t.kinds[url] = &kind{
			typeURL: url, entries: map[string]*entry{}, byAlias: map[string][]*entry{}, byService: index{}, byNode: index{},
		}
	}
	return t
}

// Commit puts the batch's resources in the place of those of the same names, and wakes every client. The batch must not be
// used any more. now is when the change happened, for the convergence metric.
func (t *Table) Commit(b *Batch, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seq++
	t.at = now
	for i, fresh := range [][]*entry{b.addresses, b.policies} {
		for _, e := range fresh {
			e.seq = t.seq
			t.kinds[types[i]].replace(e)
		}
	}
	for _, k := range t.kinds {
		k.forget()
	}
	close(t.changed)
	t.changed = make(chan struct{})
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

// replace puts e in the place of the entry of its name, as the newest.
func (k *kind) replace(e *entry) {
	k.whole.drop()
	old := k.entries[e.name]
	if old == nil && e.gone {
		return
	}
	if old != nil {
		k.unlink(old)
	}
	e.follow(old)
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
	k.contents.put(e)
	for _, a := range e.aliases {
		k.byAlias[a] = append(k.byAlias[a], e)
	}
	for _, s := range e.services {
		k.byService.put(s, e)
	}
	if e.node != "" {
		k.byNode.put(e.node, e)
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
	k.contents.drop(e)
	for _, a := range e.aliases {
		k.byAlias[a] = slices.DeleteFunc(k.byAlias[a], func(o *entry) bool { return o == e })
		if len(k.byAlias[a]) == 0 {
			delete(k.byAlias, a)
		}
	}
	for _, s := range e.services {
		k.byService.drop(s, e)
	}
	k.byNode.drop(e.node, e)
}

// forget bounds the memory of removals. Clients that needed a forgotten one have to reconnect. A share is forgotten at a time: the
// oldest removal stands behind every live resource that changed before it, and passing by those is not to be paid at each change.
func (k *kind) forget() {
	most := max(minGone, k.live)
	if k.gone <= most {
		return
	}
	for e := k.oldest; e != nil && k.gone > most-most/8; {
		next := e.newer
		if e.gone {
			k.unlink(e)
			delete(k.entries, e.name)
			k.floor = e.seq
		}
		e = next
	}
}
