package kube

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// informer is one kind's shared informer. Its cache is the only copy of the objects: what is delivered is what it holds.
type informer struct {
	kind   kind
	shared cache.SharedIndexInformer
	synced cache.DoneChecker // once everything that was there has been noted as pending

	stop context.CancelFunc // nil before start
	wg   sync.WaitGroup
}

// newInformer makes an informer that does not run yet.
func (s *Source) newInformer(k kind) (*informer, error) {
	r, err := s.cluster.newReader(k, s.codecs)
	if err != nil {
		return nil, err
	}
	inf := &informer{kind: k}
	in := arrivals{
		kind: k, present: s.present,
		unread: func(key objects.Key, err error) {
			if s.health.unread(key, err) {
				s.pending.poke()
			}
		},
		only: func(unread map[objects.Key]struct{}) {
			if s.health.onlyUnread(k.name, unread) {
				s.pending.poke()
			}
		},
		last: func(key objects.Key) objects.Object {
			return inf.get(cache.ObjectName{Namespace: key.Namespace, Name: key.Name})
		},
	}
	pages, lastPage := in.account()
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
			list, err := r.list(ctx, opts)
			if s.health.outcome(ctx, k.name, err); err != nil {
				return nil, err
			}
			if opts.Continue == "" {
				pages, lastPage = in.account()
			}
			return pages.whole(list, lastPage)
		},
		WatchFuncWithContext: func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
			w, err := r.watch(ctx, opts)
			if err != nil && opts.SendInitialEvents != nil && apierrors.IsInvalid(err) {
				return nil, err // a server without watch-list; the informer lists instead
			}
			if s.health.outcome(ctx, k.name, cutOff(w, err)); err != nil {
				return nil, err
			}
			if opts.SendInitialEvents == nil || !*opts.SendInitialEvents {
				return watch.Filter(w, in.event), nil
			}
			return watch.Filter(w, in.initial()), nil
		},
	}
	inf.shared = cache.NewSharedIndexInformerWithOptions(lw, nil, cache.SharedIndexInformerOptions{ObjectDescription: k.resource.String()})
	if err := inf.shared.SetWatchErrorHandlerWithContext(func(ctx context.Context, _ *cache.Reflector, err error) {
		s.log.Debug("watch ended", "kind", string(k.name), "err", err)
	}); err != nil {
		return nil, fmt.Errorf("watch %s: %w", k.name, err)
	}
	reg, err := inf.shared.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) { s.changed(k.name, o, "add") },
		UpdateFunc: func(before, after any) {
			b, ok := before.(objects.Object)
			if a, is := after.(objects.Object); ok && is && unchanged(b, a) {
				s.metrics.event(k.name, "updatesame")
				return
			}
			s.changed(k.name, after, "update")
		},
		DeleteFunc: func(o any) { s.changed(k.name, o, "delete") },
	})
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", k.name, err)
	}
	inf.synced = reg.HasSyncedChecker()
	return inf, nil
}

func (i *informer) start(ctx context.Context) {
	ctx, i.stop = context.WithCancel(ctx)
	i.wg.Go(func() { i.shared.RunWithContext(ctx) })
}

// end stops the informer and waits for it.
func (i *informer) end() {
	if i.stop != nil {
		i.stop()
		i.wg.Wait()
	}
}

// get is the object in the cache, or nil.
func (i *informer) get(name cache.ObjectName) objects.Object {
	o, ok, err := i.shared.GetStore().GetByKey(name.String())
	if err != nil || !ok {
		return nil
	}
	out, _ := o.(objects.Object)
	return out
}

// cutOff is the error of a request for a watch. client-go gives an empty watch, and no error, if the connection ended before
// an answer came.
func cutOff(w watch.Interface, err error) error {
	if err == nil && reflect.TypeOf(w) == reflect.TypeOf(watch.NewEmptyWatch()) {
		return errors.New("connection ended without an answer")
	}
	return err
}
