package kube

import (
	"encoding/json"
	"fmt"

	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/ambit-mesh/ambit/controller/objects"
	"github.com/ambit-mesh/ambit/controller/strict"
)

// arrivals turns what comes over the wire into what the cache holds, each object once. It runs before the informer's own
// stores, so that not even a first list is held untrimmed.
type arrivals struct {
	kind kind
	// present is told an object's conditions before it is trimmed.
	present func(objects.Key, *noted)
	// last is the object in the cache, or nil.
	last func(objects.Key) objects.Object
	// unread is told what came of decoding: nil if it could be.
	unread func(objects.Key, error)
	// only is told, at the end of a complete account of the kind, which of its objects could not be decoded.
	only func(unread map[objects.Key]struct{})
}

// account is for going through all objects of the kind: a list with its pages, or the initial events of a watch. An object that
// was deleted while nobody watched is not in it, so at the end what was known of it has to go. One goroutine at a time.
func (a arrivals) account() (in arrivals, end func()) {
	bad := map[objects.Key]struct{}{}
	in = a
	in.unread = func(key objects.Key, err error) {
		delete(bad, key)
		if err != nil {
			bad[key] = struct{}{}
		}
		a.unread(key, err)
	}
	return in, func() { a.only(bad) }
}

// initialEnd reports that with this event, all that was there when the watch began has been sent.
func initialEnd(e watch.Event) bool {
	if e.Type != watch.Bookmark {
		return false
	}
	m, err := meta.Accessor(e.Object)
	return err == nil && m.GetAnnotations()[metav1.InitialEventsAnnotationKey] == "true"
}

// list replaces the items of a list. Items that cannot be read are left out, unless an earlier version of them is at hand.
func (a arrivals) list(in runtime.Object) (runtime.Object, error) {
	out := &metav1.List{}
	add := func(item runtime.Object) error {
		if o := a.one(item); o != nil {
			out.Items = append(out.Items, runtime.RawExtension{Object: o})
		}
		return nil
	}
	switch in := in.(type) {
	case *rawList:
		out.ListMeta = in.ListMeta
		for i := range in.Items {
			_ = add(&in.Items[i])
			in.Items[i].text = nil
		}
	default:
		m, err := meta.ListAccessor(in)
		if err != nil {
			return nil, err
		}
		out.ListMeta = metav1.ListMeta{ResourceVersion: m.GetResourceVersion(), Continue: m.GetContinue(), RemainingItemCount: m.GetRemainingItemCount()}
		if err := meta.EachListItem(in, add); err != nil {
			return nil, fmt.Errorf("list of %s: %w", a.kind.name, err)
		}
	}
	return out, nil
}

// whole is list, and calls end after the last page.
func (a arrivals) whole(in runtime.Object, end func()) (runtime.Object, error) {
	out, err := a.list(in)
	if err != nil {
		return nil, err
	}
	if l, ok := out.(*metav1.List); ok && l.Continue == "" {
		end()
	}
	return out, nil
}

// initial is event for a watch that begins with an account of all there is.
func (a arrivals) initial() func(watch.Event) (watch.Event, bool) {
	in, end := a.account()
	return func(e watch.Event) (watch.Event, bool) {
		if initialEnd(e) {
			end()
			in, end = a, func() {}
		}
		return in.event(e)
	}
}

// event replaces the object of a watch event. An object that went does so whether or not it can be read.
func (a arrivals) event(e watch.Event) (watch.Event, bool) {
	switch e.Type {
	case watch.Added, watch.Modified:
		o := a.one(e.Object)
		if o == nil {
			return e, false
		}
		e.Object = o
	case watch.Deleted:
		if r, ok := e.Object.(*raw); ok {
			a.unread(a.key(r), nil)
			r.text = nil
		}
	}
	return e, true
}

// one is the object as the cache holds it, or nil.
func (a arrivals) one(in runtime.Object) objects.Object {
	switch in := in.(type) {
	case *raw:
		return a.custom(in)
	case *metav1.PartialObjectMetadata:
		return objects.Trim(a.kind.shell(in.ObjectMeta))
	case *corev1.Service:
		a.present(a.key(in), noteOfService(in))
		return objects.Trim(in)
	case objects.Object:
		return objects.Trim(in)
	default:
		a.unread(objects.Key{Kind: a.kind.name}, fmt.Errorf("server sent a %T", in))
		return nil
	}
}

func (a arrivals) custom(in *raw) objects.Object {
	key := a.key(in)
	o := a.kind.empty()
	err := json.Unmarshal(in.text, o)
	a.unread(key, err)
	if err != nil {
		return a.last(key)
	}
	if a.kind.conditions {
		a.present(key, noteOf(a.kind.name, in.text))
	}
	objects.NoteUnknown(o, unknownFields(o, in.text))
	return objects.Trim(o)
}

// unknownFields are those of a policy of a later API than ours, which Istio's decoder leaves out: without them it may match more.
func unknownFields(o objects.Object, text []byte) []string {
	p, ok := o.(*securityv1.AuthorizationPolicy)
	if !ok {
		return nil
	}
	var parts struct {
		Spec json.RawMessage `json:"spec"`
	}
	if json.Unmarshal(text, &parts) != nil || len(parts.Spec) == 0 {
		return nil
	}
	return strict.Unknown(parts.Spec, p.Spec.ProtoReflect().Descriptor(), "spec")
}

func (a arrivals) key(o metav1.Object) objects.Key {
	return objects.Key{Kind: a.kind.name, Namespace: o.GetNamespace(), Name: o.GetName()}
}
