package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/tools/cache"

	"github.com/ambit-mesh/ambit/controller/objects"
	"github.com/ambit-mesh/ambit/controller/source"
)

// Source is the API server as a source.Source. A kind whose CustomResourceDefinition is not installed is left out until it is.
// The first batch holds everything there was; a kind that appears later is delivered once its first list is complete.
type Source struct {
	cluster *Cluster
	codecs  serializer.CodecFactory
	all     []kind
	log     *slog.Logger
	metrics *Metrics
	health  *health
	pending *pending
	notes   *ledger
	served  *presence

	mu        sync.Mutex
	informers map[objects.Kind]*informer
	missing   []objects.Kind
}

// NewSource makes a source of every kind in package objects; MeshConfig is the ConfigMap of the root namespace. Kubernetes' own kinds have their informers at once, so that
// others can add handlers before Run.
func NewSource(c *Cluster, rootNamespace string, log *slog.Logger, m *Metrics) (*Source, error) {
	return newSource(c, kinds(rootNamespace), log, m)
}

func newSource(c *Cluster, all []kind, log *slog.Logger, m *Metrics) (*Source, error) {
	s := &Source{
		cluster: c, codecs: decoders(all), all: all, log: log, metrics: m, health: newHealth(log, m), pending: newPending(), notes: newLedger(),
		informers: map[objects.Kind]*informer{},
	}
	s.served = newPresence(c, log, s.health, all, s.pending.poke)
	for _, k := range all {
		if k.custom() {
			continue
		}
		inf, err := s.newInformer(k)
		if err != nil {
			return nil, err
		}
		s.informers[k.name] = inf
	}
	return s, nil
}

// Run implements source.Source.
func (s *Source) Run(ctx context.Context, deliver func(source.Batch)) error {
	ctx = quiet(ctx, s.log)
	ctx, cancel := context.WithCancel(ctx)
	defer s.end()
	defer cancel()
	for _, inf := range s.running() {
		inf.start(ctx)
		go s.pokeWhenSynced(ctx, inf)
	}
	looking := make(chan error, 1)
	go func() { looking <- s.served.run(ctx); cancel() }()
	err := s.deliver(ctx, deliver)
	cancel()
	return errors.Join(err, <-looking)
}

// deliver gives out batches until ctx ends: all there is once it is complete, then what changed as soon as it did.
func (s *Source) deliver(ctx context.Context, deliver func(source.Batch)) error {
	first := true
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.pending.wake:
		}
		if !s.served.known() {
			continue
		}
		if err := s.follow(ctx); err != nil {
			return err
		}
		if first && len(s.Waiting()) > 0 {
			continue
		}
		if changes := s.take(); first || len(changes) > 0 {
			first = false
			deliver(source.Batch{Changes: changes, Synced: true})
		}
	}
}

// follow starts the informers of custom kinds that appeared, and ends those of kinds that went.
func (s *Source) follow(ctx context.Context) error {
	var missing []objects.Kind
	for _, k := range s.all {
		if !k.custom() {
			continue
		}
		s.mu.Lock()
		inf := s.informers[k.name]
		s.mu.Unlock()
		there := s.served.has(k.resource)
		switch {
		case there && inf == nil:
			started, err := s.newInformer(k)
			if err != nil {
				return err
			}
			s.mu.Lock()
			s.informers[k.name] = started
			s.mu.Unlock()
			started.start(ctx)
			go s.pokeWhenSynced(ctx, started)
			s.log.Info("kind is watched", "kind", string(k.name), "resource", k.resource.String())
		case !there && inf != nil:
			inf.end()
			s.mu.Lock()
			delete(s.informers, k.name)
			s.mu.Unlock()
			for _, o := range inf.shared.GetStore().List() {
				s.changed(k.name, o, "delete")
			}
			s.health.forget(k.name)
		}
		if there {
			s.metrics.missing.WithLabelValues(string(k.name)).Set(0)
		} else {
			missing = append(missing, k.name)
			s.metrics.missing.WithLabelValues(string(k.name)).Set(1)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(missing, s.missing) {
		if len(missing) > 0 {
			s.log.Info("kinds are not installed; they are picked up when they are", "kinds", fmt.Sprint(missing))
		}
		s.missing = missing
	}
	return nil
}

// Waiting names what the first state still waits for, and why; empty once it is complete.
func (s *Source) Waiting() []string {
	var out []string
	if !s.served.known() {
		out = append(out, fmt.Sprintf("%s: %s", definitions, s.health.why(definitions)))
	}
	for _, inf := range s.running() {
		k := inf.kind
		if !cache.IsDone(inf.synced) {
			out = append(out, fmt.Sprintf("%s: %s", k.name, s.health.why(k.name)))
		} else if bad := s.health.unreadOf(k.name); k.guards && len(bad) > 0 {
			out = append(out, strings.Join(bad, "; "))
		}
	}
	return out
}

// take empties what is pending of every kind that is complete. What is no longer in the cache is gone.
func (s *Source) take() []objects.Change {
	var out []objects.Change
	for _, k := range s.all {
		s.mu.Lock()
		inf := s.informers[k.name]
		s.mu.Unlock()
		if inf != nil && !cache.IsDone(inf.synced) {
			continue
		}
		for _, name := range s.pending.take(k.name) {
			c := objects.Change{Key: objects.Key{Kind: k.name, Namespace: name.Namespace, Name: name.Name}}
			if inf != nil {
				c.Object = inf.get(name)
			}
			out = append(out, c)
		}
	}
	return out
}

// changed notes that an object of a kind is not what it was. An object that vanished while nobody watched comes as a
// cache.DeletedFinalStateUnknown, of which the name is enough.
func (s *Source) changed(kind objects.Kind, o any, event string) {
	name, err := cache.DeletionHandlingObjectToName(o)
	if err != nil {
		s.log.Error("informer delivered something without a name", "kind", string(kind), "err", err)
		return
	}
	if event == "delete" {
		s.notes.set(objects.Key{Kind: kind, Namespace: name.Namespace, Name: name.Name}, nil)
	}
	s.metrics.event(kind, event)
	s.pending.add(kind, name)
}

// present takes the conditions an object arrived with.
func (s *Source) present(key objects.Key, n *noted) { s.notes.set(key, n) }

func (s *Source) pokeWhenSynced(ctx context.Context, inf *informer) {
	select {
	case <-inf.synced.Done():
		s.pending.poke()
	case <-ctx.Done():
	}
}

func (s *Source) running() []*informer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.informers), func(a, b *informer) int { return strings.Compare(string(a.kind.name), string(b.kind.name)) })
}

func (s *Source) end() {
	for _, inf := range s.running() {
		inf.end()
	}
}

// nodeOf is the node of a pod that the cache knows under this uid, or "".
func (s *Source) nodeOf(namespace, pod, uid string) string {
	s.mu.Lock()
	inf := s.informers[objects.Pod]
	s.mu.Unlock()
	p, ok := inf.get(cache.ObjectName{Namespace: namespace, Name: pod}).(*objects.CompactPod)
	if !ok || string(p.UID) != uid {
		return ""
	}
	return p.NodeName
}
