package kube

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ambit-mesh/ambit/controller/ca"
)

// The Secret that keeps a self-signed root, as Istio names it: so an existing mesh's root is taken over.
const (
	RootSecretName = "istio-ca-secret"
	rootSecretType = corev1.SecretType("istio.io/ca-root")
)

// Secret keeps the self-signed authority's data in a Secret, as a ca.Store. The API server's resource version makes one of
// several writers the first. The API server's encryption at rest is what protects the key.
type Secret struct {
	cluster         *Cluster
	namespace, name string
}

// NewSecret names the Secret; it is made by the first Save.
func NewSecret(c *Cluster, namespace, name string) *Secret { return &Secret{c, namespace, name} }

// Load implements ca.Store.
func (s *Secret) Load(ctx context.Context) (map[string][]byte, string, error) {
	secret, err := s.cluster.writes.CoreV1().Secrets(s.namespace).Get(ctx, s.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("secret %s/%s: %w", s.namespace, s.name, err)
	}
	data := secret.Data
	if data == nil {
		data = map[string][]byte{}
	}
	return data, version(secret), nil
}

// Save implements ca.Store.
func (s *Secret) Save(ctx context.Context, data map[string][]byte, v string) (string, error) {
	secrets := s.cluster.writes.CoreV1().Secrets(s.namespace)
	if v == "" {
		made, err := secrets.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: s.name}, Type: rootSecretType, Data: data,
		}, metav1.CreateOptions{FieldManager: fieldManager})
		return s.saved(made, err)
	}
	now, err := secrets.Get(ctx, s.name, metav1.GetOptions{})
	if err == nil && version(now) != v {
		return "", ca.ErrConflict
	}
	if err != nil {
		return s.saved(nil, err)
	}
	now.Data = data // labels, owners and the type stay; the resource version guards the rest
	updated, err := secrets.Update(ctx, now, metav1.UpdateOptions{FieldManager: fieldManager})
	return s.saved(updated, err)
}

func (s *Secret) saved(secret *corev1.Secret, err error) (string, error) {
	switch {
	case err == nil:
		return version(secret), nil
	case apierrors.IsAlreadyExists(err), apierrors.IsConflict(err), apierrors.IsNotFound(err) && !namespaceMissing(err):
		return "", ca.ErrConflict
	default:
		return "", fmt.Errorf("secret %s/%s: %w", s.namespace, s.name, err)
	}
}

// namespaceMissing tells a Secret that is not there from a namespace that is not: only the first is a race.
func namespaceMissing(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && status.Status().Details != nil && status.Status().Details.Kind == "namespaces"
}

// version is that of the object, not of its name: a Secret that was deleted and made anew is another.
func version(s *corev1.Secret) string { return string(s.UID) + "/" + s.ResourceVersion }
