package kube

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
	"github.com/ambit-mesh/ambit/controller/ca"
	"github.com/ambit-mesh/ambit/controller/kube/kubetest"
)

// holder is a workload with the certificate and roots that it was given last. It renews at half of the life.
type holder struct {
	cert  tls.Certificate
	roots *x509.CertPool
	half  time.Time
}

func (h *holder) renew(t *testing.T, s ca.Signer) {
	t.Helper()
	if time.Now().Before(h.half) {
		return
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	chain, err := s.Sign(t.Context(), ca.Request{Key: key.Public(), ID: spiffe.ID{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "web"}, Lifetime: time.Hour})
	must(t, err)
	block, _ := pem.Decode(chain.Leaf)
	leaf, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	h.cert = tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key}
	h.roots = x509.NewCertPool()
	h.roots.AppendCertsFromPEM(chain.Roots)
	h.half = time.Now().Add(time.Until(leaf.NotAfter) / 2)
}

// accepts reports whether two workloads connect over TLS 1.3, each checking the other's certificate under its own roots.
func accepts(client, server *holder) error {
	c, s := net.Pipe()
	defer c.Close()
	defer s.Close()
	served := make(chan error, 1)
	go func() {
		_, err := tls.Server(s, &tls.Config{
			Certificates: []tls.Certificate{server.cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: server.roots,
			MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true,
		}).Write([]byte{1})
		s.Close()
		served <- err
	}()
	_, err := tls.Client(c, &tls.Config{
		Certificates: []tls.Certificate{client.cert}, InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, // names are SPIFFE ids
		VerifyConnection: func(st tls.ConnectionState) error {
			_, err := st.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: client.roots})
			return err
		},
	}).Read(make([]byte, 1))
	c.Close()
	return errors.Join(err, <-served)
}

// TestRotationThroughSecret: two replicas share a Secret of a real API server. The root is replaced because an operator asks for
// it, and again because somebody overwrites the Secret. All the time every two workloads, which renew at the one replica or the
// other, accept each other, and in each phase the namespace's ConfigMap has just the roots that are trusted.
func TestRotationThroughSecret(t *testing.T) {
	w := newWorld(t, kubetest.Server(t))
	s := w.source()
	var got receiver
	run(t, func(ctx context.Context) error { return s.Run(ctx, got.deliver) })
	open := func() *ca.SelfSigned {
		a, err := ca.OpenSelfSigned(t.Context(), ca.SelfSignedConfig{
			Store: NewSecret(connect(t, kubetest.Server(t)), w.namespace, RootSecretName), TrustDomain: "cluster.local", Log: w.log, Now: time.Now,
			Windows: ca.Windows{Overlap: 8 * time.Second, Settle: 4 * time.Second}, Metrics: ca.NewAuthorityMetrics(prometheus.NewRegistry()),
			Poll: 200 * time.Millisecond,
		})
		must(t, err)
		run(t, a.Run)
		return a
	}
	replicas := []*ca.SelfSigned{open(), open()}
	keeper := NewRootConfigMaps(s, replicas[0])
	run(t, keeper.Lead)
	run(t, func(ctx context.Context) error { return replicas[0].Lead(ctx, keeper.Distributed) })
	mesh := []*holder{{}, {}, {}}
	turn := 0
	// step renews what is due and lets everybody connect to everybody.
	step := func() {
		turn++
		for i, h := range mesh {
			h.renew(t, replicas[(turn+i)%2])
		}
		for i, a := range mesh {
			for j, b := range mesh {
				if err := accepts(a, b); err != nil {
					t.Fatalf("%d to %d, %s: %v", i, j, replicas[0].Phase(), err)
				}
			}
		}
	}
	maps := w.cluster.reads.CoreV1().ConfigMaps(w.namespace)
	until := func(what string, roots int, phase ca.Phase) []byte {
		t.Helper()
		var text []byte
		eventually(t, what, func() bool {
			step()
			m, err := maps.Get(t.Context(), RootConfigMapName, metav1.GetOptions{})
			if err != nil {
				return false
			}
			text = []byte(m.Data[rootConfigMapKey])
			return bytes.Count(text, []byte("BEGIN")) == roots && replicas[0].Phase() == phase && replicas[1].Phase() == phase &&
				bytes.Equal(text, replicas[0].Roots()) && bytes.Equal(text, replicas[1].Roots())
		})
		return text
	}
	secrets := w.cluster.writes.CoreV1().Secrets(w.namespace)
	root := until("one root", 1, ca.Stable)
	for name, change := range map[string]func(data map[string][]byte){
		"asked for": func(data map[string][]byte) { data[ca.KeyRotate] = []byte("now") },
		"overwritten": func(data map[string][]byte) {
			clear(data)
			made := ca.NewFolder(t.TempDir())
			_, err := ca.OpenSelfSigned(t.Context(), ca.SelfSignedConfig{
				Store: made, TrustDomain: "cluster.local", Log: w.log, Now: time.Now, Windows: ca.Windows{Overlap: time.Hour}, Metrics: ca.NewAuthorityMetrics(prometheus.NewRegistry()),
			})
			must(t, err)
			other, _, err := made.Load(t.Context())
			must(t, err)
			data[ca.KeyCert], data[ca.KeyKey] = other[ca.KeyCert], other[ca.KeyKey]
		},
	} {
		eventually(t, name, func() bool {
			secret, err := secrets.Get(t.Context(), RootSecretName, metav1.GetOptions{})
			must(t, err)
			change(secret.Data)
			_, err = secrets.Update(t.Context(), secret, metav1.UpdateOptions{})
			return err == nil
		})
		both := until(fmt.Sprint(name, ": both roots"), 2, ca.Distributing)
		if !bytes.Contains(both, root) {
			t.Errorf("%s: the root of before is no longer trusted", name)
		}
		until(fmt.Sprint(name, ": the new one signs"), 2, ca.Switched)
		next := until(fmt.Sprint(name, ": one root again"), 1, ca.Stable)
		if bytes.Equal(next, root) || !bytes.Contains(both, next) {
			t.Errorf("%s: not the new root remains", name)
		}
		root = next
	}
}
