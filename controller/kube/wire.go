package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
)

// raw is a custom resource as it came. It is decoded one by one, so that an object nobody can read hides no other.
type raw struct {
	metav1.TypeMeta
	metav1.ObjectMeta
	text []byte
}

// UnmarshalJSON reads the metadata and keeps the text.
func (r *raw) UnmarshalJSON(data []byte) error {
	var head struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return err
	}
	r.TypeMeta, r.ObjectMeta, r.text = head.TypeMeta, head.ObjectMeta, bytes.Clone(data)
	return nil
}

// DeepCopyObject implements runtime.Object.
func (r *raw) DeepCopyObject() runtime.Object {
	return &raw{r.TypeMeta, *r.ObjectMeta.DeepCopy(), r.text}
}

// rawList is a list of them.
type rawList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []raw `json:"items"`
}

// DeepCopyObject implements runtime.Object.
func (l *rawList) DeepCopyObject() runtime.Object {
	out := &rawList{l.TypeMeta, *l.ListMeta.DeepCopy(), make([]raw, 0, len(l.Items))}
	for i := range l.Items {
		out.Items = append(out.Items, *l.Items[i].DeepCopyObject().(*raw))
	}
	return out
}

// decoders knows what comes over the wire for each kind.
func decoders(all []kind) serializer.CodecFactory {
	return serializer.NewCodecFactory(decodersScheme(all))
}

func decodersScheme(all []kind) *runtime.Scheme {
	scheme := runtime.NewScheme()
	utilruntime.Must(corev1.AddToScheme(scheme))
	utilruntime.Must(discoveryv1.AddToScheme(scheme))
	utilruntime.Must(metav1.AddMetaToScheme(scheme))
	for _, k := range all {
		gv := k.gvk.GroupVersion()
		if k.custom() {
			scheme.AddKnownTypeWithName(k.gvk, &raw{})
			scheme.AddKnownTypeWithName(gv.WithKind(k.gvk.Kind+"List"), &rawList{})
			metav1.AddToGroupVersion(scheme, gv)
		}
	}
	return scheme
}

// reader lists and watches one resource.
type reader struct {
	client            rest.Interface
	resource          string
	namespace, object string
}

// newReader makes a client for a resource. Of metadata-only kinds the server sends metav1.PartialObjectMetadata.
func (c *Cluster) newReader(k kind, codecs serializer.CodecFactory) (reader, error) {
	gv := k.resource.GroupVersion()
	client, err := c.restClient(gv, codecs, !k.custom(), k.shell != nil)
	if err != nil {
		return reader{}, fmt.Errorf("client of %s: %w", k.resource.Resource, err)
	}
	return reader{client, k.resource.Resource, k.namespace, k.object}, nil
}

func (c *Cluster) restClient(gv schema.GroupVersion, codecs serializer.CodecFactory, binary, metadata bool) (*rest.RESTClient, error) {
	cfg := rest.CopyConfig(c.base)
	cfg.GroupVersion, cfg.APIPath = &gv, "/apis"
	if gv.Group == "" {
		cfg.APIPath = "/api"
	}
	cfg.NegotiatedSerializer = codecs.WithoutConversion()
	types := []string{"application/json"}
	if binary {
		cfg.ContentType = protobufs
		types = []string{protobufs, "application/json"}
	}
	for i, t := range types {
		if metadata {
			t += ";as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
		}
		types[i] = t
	}
	cfg.AcceptContentTypes = types[0]
	for _, t := range types[1:] {
		cfg.AcceptContentTypes += "," + t
	}
	return rest.RESTClientForConfigAndClient(cfg, c.http)
}

func (r reader) request(opts metav1.ListOptions) *rest.Request {
	if r.object != "" {
		opts.FieldSelector = "metadata.name=" + r.object
	}
	req := r.client.Get().Resource(r.resource).VersionedParams(&opts, metav1.ParameterCodec)
	if r.namespace != "" {
		req = req.Namespace(r.namespace)
	}
	return req
}

func (r reader) list(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
	return r.request(opts).Do(ctx).Get()
}

func (r reader) watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	opts.Watch = true
	return r.request(opts).Watch(ctx)
}
