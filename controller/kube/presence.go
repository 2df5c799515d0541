package kube

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// definitions is the kind of CustomResourceDefinitions, in logs and metrics.
const definitions objects.Kind = "CustomResourceDefinition"

// presence knows which custom resources the API server serves. It watches the names of CustomResourceDefinitions, and asks
// discovery about those that concern us: a definition is there some time before its resource is served, and may not have
// our version at all.
type presence struct {
	cluster *Cluster
	log     *slog.Logger
	health  *health
	wanted  map[schema.GroupVersion][]schema.GroupVersionResource
	changed func() // told when the answers may be others

	look chan struct{} // one token: definitions changed

	mu     sync.Mutex
	asked  bool
	served map[schema.GroupVersionResource]bool
}

func newPresence(c *Cluster, log *slog.Logger, h *health, all []kind, changed func()) *presence {
	p := &presence{
		cluster: c, log: log, health: h, wanted: map[schema.GroupVersion][]schema.GroupVersionResource{}, changed: changed,
		look: make(chan struct{}, 1), served: map[schema.GroupVersionResource]bool{},
	}
	for _, k := range all {
		if gv := k.resource.GroupVersion(); k.custom() {
			p.wanted[gv] = append(p.wanted[gv], k.resource)
		}
	}
	return p
}

// known reports that the first answers are in.
func (p *presence) known() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

// has reports whether a resource is served.
func (p *presence) has(r schema.GroupVersionResource) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.served[r]
}

// run watches until ctx ends.
func (p *presence) run(ctx context.Context) error {
	inf, err := p.informer()
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { inf.RunWithContext(ctx) })
	if !cache.WaitFor(ctx, "", inf.HasSyncedChecker()) {
		return nil // ctx ended
	}
	fresh := wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Jitter: 0.2, Steps: 8, Cap: 15 * time.Second}
	backoff := fresh
	for {
		complete, err := p.ask(ctx, inf.GetStore())
		p.health.outcome(ctx, definitions, err)
		var again <-chan time.Time
		if !complete {
			again = time.After(backoff.Step())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-p.look:
			backoff = fresh
		case <-again:
		}
	}
}

func (p *presence) informer() (cache.SharedIndexInformer, error) {
	gv := schema.GroupVersion{Group: "apiextensions.k8s.io", Version: "v1"}
	client, err := p.cluster.restClient(gv, decoders(nil), true, true)
	if err != nil {
		return nil, fmt.Errorf("client of custom resource definitions: %w", err)
	}
	r := reader{client: client, resource: "customresourcedefinitions"}
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
			list, err := r.list(ctx, opts)
			p.health.outcome(ctx, definitions, err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
			w, err := r.watch(ctx, opts)
			p.health.outcome(ctx, definitions, cutOff(w, err))
			return w, err
		},
	}
	inf := cache.NewSharedIndexInformerWithOptions(lw, &metav1.PartialObjectMetadata{}, cache.SharedIndexInformerOptions{ObjectDescription: string(definitions)})
	poke := func(o any) {
		if name, err := cache.DeletionHandlingObjectToName(o); err != nil || !p.concerns(name.Name) {
			return
		}
		select {
		case p.look <- struct{}{}:
		default:
		}
	}
	if _, err := inf.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: poke, UpdateFunc: func(_, o any) { poke(o) }, DeleteFunc: poke}); err != nil {
		return nil, fmt.Errorf("watch custom resource definitions: %w", err)
	}
	if err := inf.SetWatchErrorHandlerWithContext(func(ctx context.Context, _ *cache.Reflector, err error) {
		p.log.Debug("watch ended", "kind", string(definitions), "err", err)
	}); err != nil {
		return nil, fmt.Errorf("watch custom resource definitions: %w", err)
	}
	err = inf.SetTransform(func(o any) (any, error) { // of some hundred definitions the names are enough
		if m, ok := o.(*metav1.PartialObjectMetadata); ok {
			return &metav1.PartialObjectMetadata{TypeMeta: m.TypeMeta, ObjectMeta: metav1.ObjectMeta{Name: m.Name, ResourceVersion: m.ResourceVersion}}, nil
		}
		return o, nil
	})
	return inf, err
}

func (p *presence) concerns(definition string) bool {
	for _, list := range p.wanted {
		for _, r := range list {
			if r.GroupResource().String() == definition {
				return true
			}
		}
	}
	return false
}

// ask finds out what is served. It is complete if definitions and discovery agree. What was served goes only when both say so: an API
// server that has just started knows its definitions before it serves them, and a mesh without its policies is open.
func (p *presence) ask(ctx context.Context, defined cache.Store) (complete bool, err error) {
	p.mu.Lock()
	before := p.served
	p.mu.Unlock()
	served, complete := map[schema.GroupVersionResource]bool{}, true
	for gv, list := range p.wanted {
		there := map[schema.GroupVersionResource]bool{} // with or without a definition
		for _, r := range list {
			if _, ok, _ := defined.GetByKey(r.GroupResource().String()); ok || before[r] {
				there[r] = ok
			}
		}
		if len(there) == 0 {
			continue
		}
		var found metav1.APIResourceList
		err := p.cluster.reads.Discovery().RESTClient().Get().AbsPath("/apis", gv.Group, gv.Version).Do(ctx).Into(&found)
		if err != nil && !apierrors.IsNotFound(err) {
			return false, err
		}
		names := map[string]bool{}
		for _, r := range found.APIResources {
			names[r.Name] = true
		}
		for r, isDefined := range there {
			if names[r.Resource] == isDefined {
				served[r] = isDefined
				continue
			}
			complete, served[r] = false, before[r]
			p.log.Info("definition and discovery of a custom resource differ; looking again", "resource", r.String(), "defined", isDefined, "served", names[r.Resource], "watched", before[r])
		}
	}
	maps.DeleteFunc(served, func(_ schema.GroupVersionResource, is bool) bool { return !is })
	p.mu.Lock()
	first, same := !p.asked, maps.Equal(p.served, served)
	p.asked, p.served = true, served
	p.mu.Unlock()
	if first || !same {
		p.changed()
	}
	return complete, nil
}
