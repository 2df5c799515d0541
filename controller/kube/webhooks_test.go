package kube_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/ambit-mesh/ambit/controller/kube"
	"github.com/ambit-mesh/ambit/controller/kube/kubetest"
	"github.com/ambit-mesh/ambit/controller/validate"
	"github.com/ambit-mesh/ambit/controller/webhook"
)

// authority signs the webhook's certificate and can be replaced.
type authority struct {
	mu      sync.Mutex
	roots   []byte
	cert    *tls.Certificate
	changed chan struct{}
}

func (a *authority) Roots() []byte { a.mu.Lock(); defer a.mu.Unlock(); return a.roots }

func (a *authority) Changed() <-chan struct{} { a.mu.Lock(); defer a.mu.Unlock(); return a.changed }

func (a *authority) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cert, nil
}

// rotate makes another root, which signs itself for 127.0.0.1.
func (a *authority) rotate(t *testing.T) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "webhook test"}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.roots = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	a.cert = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	if a.changed != nil {
		close(a.changed)
	}
	a.changed = make(chan struct{})
}

// eventually asks until the answer is nil, at the pace of a ticker: when the API server takes up a webhook's configuration it tells
// nobody.
func eventually(t *testing.T, what string, ask func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// TestWebhook: a real API server asks the webhook, trusts it through a rotation, refuses with its words, and does as
// failurePolicy says when nobody answers.
func TestWebhook(t *testing.T) {
	cfg := kubetest.Server(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	client, dyn := kubernetes.NewForConfigOrDie(cfg), dynamic.NewForConfigOrDie(cfg)
	ns, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "webhook-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.CoreV1().Namespaces().Delete(context.Background(), ns.Name, metav1.DeleteOptions{}) }()

	roots := &authority{}
	roots.rotate(t)
	srv := httptest.NewUnstartedServer(webhook.New(webhook.Config{Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Settings: validate.Settings{}}))
	lis := tls.NewListener(srv.Listener, &tls.Config{GetCertificate: roots.get, NextProtos: []string{"http/1.1"}})
	srv.Listener = lis
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	srv.Start()
	defer srv.Close()

	url, none := "https://"+lis.Addr().String()+webhook.Path, admissionv1.SideEffectClassNone
	hooks := client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	hook := func(name, group string, policy admissionv1.FailurePolicyType) admissionv1.ValidatingWebhook {
		return admissionv1.ValidatingWebhook{
			Name: name + ".test.ambit.io", ClientConfig: admissionv1.WebhookClientConfig{URL: &url}, FailurePolicy: &policy, SideEffects: &none, AdmissionReviewVersions: []string{"v1"},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": ns.Name}},
			Rules: []admissionv1.RuleWithOperations{{
				Operations: []admissionv1.OperationType{admissionv1.Create, admissionv1.Update},
				Rule:       admissionv1.Rule{APIGroups: []string{group}, APIVersions: []string{"*"}, Resources: []string{"*"}},
			}},
		}
	}
	if _, err := hooks.Create(ctx, &admissionv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: ns.Name, Labels: map[string]string{kube.WebhookLabel: ns.Name}},
		Webhooks:   []admissionv1.ValidatingWebhook{hook("closed", "security.istio.io", admissionv1.Fail), hook("open", "networking.istio.io", admissionv1.Ignore)},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = hooks.Delete(context.Background(), ns.Name, metav1.DeleteOptions{}) }()

	var shipped admissionv1.ValidatingWebhookConfiguration
	text, err := os.ReadFile("../../deploy/chart/ambit/files/validation-webhook.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(text, &shipped); err != nil {
		t.Fatal(err)
	}
	if shipped.Name += "-" + ns.Name; shipped.Labels[kube.WebhookLabel] != kube.WebhookOwner {
		t.Error("deploy/chart/ambit/files/validation-webhook.yaml is not labelled for the controller")
	}
	if _, err := hooks.Create(ctx, &shipped, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
		t.Errorf("deploy/chart/ambit/files/validation-webhook.yaml: %v", err)
	}

	cluster, err := kube.New(cfg, "test")
	if err != nil {
		t.Fatal(err)
	}
	led := make(chan error, 1)
	go func() {
		led <- kube.NewWebhookBundles(cluster, ns.Name, roots, slog.New(slog.DiscardHandler), kube.NewMetrics(prometheus.NewRegistry())).Lead(ctx)
	}()
	defer func() {
		cancel()
		if err := <-led; err != nil {
			t.Error(err)
		}
	}()
	bundled := func() error {
		got, err := hooks.Get(ctx, ns.Name, metav1.GetOptions{})
		for i := range got.Webhooks {
			if err == nil && string(got.Webhooks[i].ClientConfig.CABundle) != string(roots.Roots()) {
				err = errors.New("another bundle")
			}
		}
		return err
	}

	create := func(group, resource, kind string, spec map[string]any) error {
		o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": group + "/v1", "kind": kind, "metadata": map[string]any{"generateName": "a-"}, "spec": spec}}
		_, err := dyn.Resource(schema.GroupVersionResource{Group: group, Version: "v1", Resource: resource}).Namespace(ns.Name).Create(ctx, o, metav1.CreateOptions{})
		return err
	}
	policy := func(port string) error {
		return create("security.istio.io", "authorizationpolicies", "AuthorizationPolicy", map[string]any{
			"rules": []any{map[string]any{"to": []any{map[string]any{"operation": map[string]any{"ports": []any{port}}}}}},
		})
	}
	refused := func() error {
		err := policy("99999")
		if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), `spec.rules[0].to[0].operation.ports[0]: "99999" is not a port`) {
			return errors.Join(errors.New("not refused with our words"), err)
		}
		return nil
	}
	for range 2 {
		eventually(t, "caBundle", bundled)
		eventually(t, "bad policy", refused)
		eventually(t, "good policy", func() error { return policy("8080") })
		roots.rotate(t)
		srv.CloseClientConnections() // so that the next review meets the new certificate
	}
	eventually(t, "caBundle after the rotation", bundled)

	srv.Close()
	eventually(t, "nobody answers: policies", func() error {
		if err := policy("8080"); err == nil || !strings.Contains(err.Error(), "failed calling webhook") {
			return errors.Join(errors.New("stored"), err)
		}
		return nil
	})
	if err := create("networking.istio.io", "destinationrules", "DestinationRule", map[string]any{"host": "a"}); err != nil {
		t.Errorf("nobody answers: traffic rules: %v", err)
	}
}
