package controller

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/ambit-mesh/ambit/controller/api/authz"
	caapi "github.com/ambit-mesh/ambit/controller/api/ca"
	"github.com/ambit-mesh/ambit/controller/api/spiffe"
	"github.com/ambit-mesh/ambit/controller/auth"
	"github.com/ambit-mesh/ambit/controller/ca"
)

// ownCertificate is the caller's, from the controller, for its token.
func (r *running) ownCertificate(t *testing.T, caller auth.Caller) tls.Certificate {
	t.Helper()
	key, text := keyAndCSR(t, "spiffe://cluster.local/ns/"+caller.Namespace+"/sa/"+caller.ServiceAccount)
	ctx, cancel := context.WithTimeout(withToken(t.Context(), r.key.mint(caller)), timeout)
	defer cancel()
	res, err := caapi.NewIstioCertificateServiceClient(r.dial(t)).CreateCertificate(ctx, &caapi.IstioCertificateRequest{Csr: text})
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(res.CertChain[0]))
	return tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key}
}

func keyAndCSR(t *testing.T, id string) (*ecdsa.PrivateKey, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	uri, err := url.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{uri}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func (r *running) dialWith(t *testing.T, cert tls.Certificate) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(r.grpc, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		RootCAs: r.roots, ServerName: "ambit-controller.ambit-system.svc",
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil },
	})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// TestClientCertificates: the port asks for a client certificate and does not insist; with one and no token, configuration and
// certificates are given to whom it names; what it cannot show is refused, with the reason.
func TestClientCertificates(t *testing.T) {
	r := start(t, t.TempDir())
	r.write(t, "proxies.yaml", proxies)
	r.write(t, "world.yaml", world)
	r.connect(t, nil).step("") // by token, without a certificate
	const webID = "spiffe://cluster.local/ns/shop/sa/web"
	app := auth.Caller{Namespace: "shop", ServiceAccount: "web", Node: "n1", Pod: "web", PodUID: "w"}
	proxyCert, webCert := r.ownCertificate(t, ztunnel("n1")), r.ownCertificate(t, app)
	foreign := foreignCertificate(t, spiffe.ID{TrustDomain: "cluster.local", Namespace: "ambit-system", ServiceAccount: "ambit-ztunnel"})

	subscribe := func(cert tls.Certificate, token string) error {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		if token != "" {
			ctx = withToken(ctx, token)
		}
		stream, err := discovery.NewAggregatedDiscoveryServiceClient(r.dialWith(t, cert)).DeltaAggregatedResources(ctx)
		if err != nil {
			return err
		}
		_ = stream.Send(&discovery.DeltaDiscoveryRequest{Node: &core.Node{Id: "ztunnel~10.1.1.1~z.ambit-system~x"}, TypeUrl: authz.TypeURL})
		_, err = stream.Recv()
		return err
	}
	ask := func(cert tls.Certificate, token, impersonate, id string) error {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		if token != "" {
			ctx = withToken(ctx, token)
		}
		req := &caapi.IstioCertificateRequest{Csr: csr(t, id)}
		if impersonate != "" {
			var err error
			if req.Metadata, err = structpb.NewStruct(map[string]any{caapi.ImpersonatedIdentity: impersonate}); err != nil {
				t.Fatal(err)
			}
		}
		_, err := caapi.NewIstioCertificateServiceClient(r.dialWith(t, cert)).CreateCertificate(ctx, req)
		return err
	}
	proxyToken, webToken := r.key.mint(ztunnel("n1")), r.key.mint(app)
	for _, tc := range []struct {
		name string
		err  error
		code codes.Code
		says string
	}{
		{"configuration, node proxy", subscribe(proxyCert, ""), codes.OK, ""},
		{"configuration, with its token", subscribe(proxyCert, proxyToken), codes.OK, ""},
		{"configuration, application", subscribe(webCert, ""), codes.PermissionDenied, "shop/web is not one"},
		{"configuration, another's token", subscribe(webCert, proxyToken), codes.Unauthenticated, "client certificate is of shop/web"},
		{"configuration, foreign", subscribe(foreign, ""), codes.Unauthenticated, "client certificate"},
		{"configuration, foreign with a good token", subscribe(foreign, proxyToken), codes.Unauthenticated, "client certificate"},
		{"certificate, its own", ask(webCert, "", "", webID), codes.OK, ""},
		{"certificate, with its token", ask(webCert, webToken, "", webID), codes.OK, ""},
		{"certificate, another's", ask(webCert, "", "", "spiffe://cluster.local/ns/shop/sa/cart"), codes.InvalidArgument, "want exactly"},
		{"certificate, foreign", ask(foreign, "", "", webID), codes.Unauthenticated, "client certificate"},
		{"impersonation, with its token", ask(proxyCert, proxyToken, webID, webID), codes.OK, ""},
		{"impersonation, without", ask(proxyCert, "", webID, webID), codes.Unauthenticated, "bound to a pod"},
		{"impersonation, application", ask(webCert, webToken, webID, webID), codes.Unauthenticated, "may not ask"},
	} {
		if status.Code(tc.err) != tc.code || tc.err != nil && !strings.Contains(tc.err.Error(), tc.says) {
			t.Errorf("%s: %v; want %s with %q", tc.name, tc.err, tc.code, tc.says)
		}
	}
	text := getText(t, "http://"+r.http+"/metrics")
	for _, name := range []string{
		"citadel_server_csr_count", "citadel_server_success_cert_issuance_count", "citadel_server_authentication_failure_count",
		"citadel_server_csr_parsing_err_count", "citadel_server_id_extraction_err_count", "citadel_server_root_cert_expiry_timestamp",
		"citadel_server_root_cert_expiry_seconds", "citadel_server_cert_chain_expiry_timestamp", "citadel_server_cert_chain_expiry_seconds",
	} {
		if !strings.Contains(text, "\n"+name+" ") {
			t.Errorf("no metric %s", name)
		}
	}
}

// foreignCertificate is one that another mesh made, with the names of ours.
func foreignCertificate(t *testing.T, id spiffe.ID) tls.Certificate {
	t.Helper()
	s, err := openAuthority(t.Context(), Config{Log: slog.New(slog.DiscardHandler), CADir: t.TempDir()}.Defaults(), ca.NewFolder(t.TempDir()), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	key, _ := keyAndCSR(t, id.String())
	chain, err := s.Sign(t.Context(), ca.Request{Key: key.Public(), ID: id, Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(chain.Leaf)
	return tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key}
}
