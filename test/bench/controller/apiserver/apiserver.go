// Package apiserver is the synthetic cluster inside a real API server without kubelets: it writes the objects that kubelets and
// controllers would have written, and changes pods.
//
// Write may be called again: what is there stays. Nothing is removed, so the server should be one to throw away.
package apiserver

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	istio "istio.io/client-go/pkg/clientset/versioned"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/ambit-mesh/ambit/controller/objects"
	"github.com/ambit-mesh/ambit/test/bench/controller/synth"
)

// writers is how many requests are under way at once.
const writers = 32

// Server is a connection to an API server.
type Server struct {
	core  kubernetes.Interface
	istio istio.Interface
}

// Connect reads a kubeconfig.
func Connect(kubeconfig string) (*Server, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	cfg.QPS = -1 // no limit of the client's own
	meshed, err := istio.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("client of the mesh's resources: %w", err)
	}
	cfg.ContentType = "application/vnd.kubernetes.protobuf"
	core, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return &Server{core: core, istio: meshed}, nil
}

// Write creates the cluster's objects, kind after kind.
func (s *Server) Write(ctx context.Context, c synth.Cluster) error {
	byKind := map[objects.Kind][]objects.Object{}
	var order []objects.Kind
	for ch := range c.Objects() {
		if byKind[ch.Key.Kind] == nil {
			order = append(order, ch.Key.Kind)
		}
		byKind[ch.Key.Kind] = append(byKind[ch.Key.Kind], ch.Object)
	}
	byKind[objects.Namespace] = append(byKind[objects.Namespace], &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ambit-system"}})
	for _, kind := range order {
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(writers)
		for _, o := range byKind[kind] {
			group.Go(func() error {
				if err := s.create(ctx, o); err != nil && !apierrors.IsAlreadyExists(err) {
					return fmt.Errorf("%s %s/%s: %w", kind, o.GetNamespace(), o.GetName(), err)
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) create(ctx context.Context, o objects.Object) (err error) {
	o.SetUID("")
	o.SetResourceVersion("")
	o.SetManagedFields(nil)
	var opts metav1.CreateOptions
	switch o := o.(type) {
	case *corev1.Namespace:
		_, err = s.core.CoreV1().Namespaces().Create(ctx, o, opts)
	case *corev1.Node:
		_, err = s.core.CoreV1().Nodes().Create(ctx, o, opts)
	case *corev1.ServiceAccount:
		_, err = s.core.CoreV1().ServiceAccounts(o.Namespace).Create(ctx, o, opts)
	case *corev1.Service:
		o.Spec.ClusterIP, o.Spec.ClusterIPs = "", nil // the server's to choose
		_, err = s.core.CoreV1().Services(o.Namespace).Create(ctx, o, opts)
	case *discoveryv1.EndpointSlice:
		_, err = s.core.DiscoveryV1().EndpointSlices(o.Namespace).Create(ctx, o, opts)
	case *securityv1.AuthorizationPolicy:
		_, err = s.istio.SecurityV1().AuthorizationPolicies(o.Namespace).Create(ctx, o, opts)
	case *corev1.Pod:
		return s.run(ctx, o)
	default:
		err = fmt.Errorf("a %T is not written", o)
	}
	return err
}

// run does what kubelet does: a pod is created, then it has an address and is ready.
func (s *Server) run(ctx context.Context, p *corev1.Pod) error {
	p.OwnerReferences = nil // the garbage collector would miss the owner
	pods := s.core.CoreV1().Pods(p.Namespace)
	made, err := pods.Create(ctx, p, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	made.Status = p.Status
	_, err = pods.UpdateStatus(ctx, made, metav1.UpdateOptions{})
	return err
}

// Change gives a pod another revision.
func (s *Server) Change(ctx context.Context, namespace, name, revision string) error {
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%q}}}`, synth.Revision, revision)
	_, err := s.core.CoreV1().Pods(namespace).Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("change of pod %s/%s: %w", namespace, name, err)
	}
	return nil
}
