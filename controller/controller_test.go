package controller

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/ambit-mesh/ambit/controller/api/authz"
	caapi "github.com/ambit-mesh/ambit/controller/api/ca"
	"github.com/ambit-mesh/ambit/controller/api/workload"
	"github.com/ambit-mesh/ambit/controller/auth"
	"github.com/ambit-mesh/ambit/controller/translate"
)

const timeout = 20 * time.Second

// running is a controller in this process, with a folder to write to.
type running struct {
	dir   string
	grpc  string
	http  string
	debug string
	roots *x509.CertPool
	key   interface{ mint(auth.Caller) string }
	log   *lockedBuffer
	stop  func() error
}

type minter struct {
	t    *testing.T
	path string
}

func (m minter) mint(c auth.Caller) string {
	key, err := auth.LoadKey(m.path)
	if err != nil {
		m.t.Fatal(err)
	}
	token, err := auth.Mint(key, c, time.Hour, time.Now())
	if err != nil {
		m.t.Fatal(err)
	}
	return token
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start runs a controller on the folder base, or a new one.
func start(t *testing.T, base string) *running {
	t.Helper()
	r := &running{dir: filepath.Join(base, "manifests"), log: &lockedBuffer{}}
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	keyFile := filepath.Join(base, "token-key.pem")
	if _, err := auth.CreateKey(keyFile); err != nil {
		t.Fatal(err)
	}
	r.key = minter{t, keyFile}
	type addrs struct{ grpc, http, debug net.Addr }
	up := make(chan addrs, 1)
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		ended <- Run(ctx, Config{
			Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Manifests: r.dir,
			CADir: filepath.Join(base, "ca"), RootFile: filepath.Join(base, "root-cert.pem"), TokenKeys: []string{keyFile + ".pub"},
			GRPC: "127.0.0.1:0", HTTP: "127.0.0.1:0", Debug: "127.0.0.1:0", Version: "test",
			Translate: translate.Settings{PublishDryRun: true},
			Listening: func(g, h, d net.Addr) { up <- addrs{g, h, d} },
		})
	}()
	select {
	case a := <-up:
		r.grpc, r.http, r.debug = a.grpc.String(), a.http.String(), a.debug.String()
	case err := <-ended:
		cancel()
		t.Fatal(err)
	}
	var once sync.Once
	var result error
	r.stop = func() error {
		once.Do(func() { cancel(); result = <-ended })
		return result
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
	pemData, err := os.ReadFile(filepath.Join(base, "root-cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	r.roots = x509.NewCertPool()
	r.roots.AppendCertsFromPEM(pemData)
	return r
}

// write puts a manifest into the folder as editors do: whole, by renaming.
func (r *running) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(filepath.Join(r.dir, name)), 0o755); err != nil {
		t.Fatal(err)
	}
	tmp := filepath.Join(filepath.Dir(filepath.Join(r.dir, name)), "."+filepath.Base(name)+".tmp")
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(r.dir, name)); err != nil {
		t.Fatal(err)
	}
}

func (r *running) dial(t *testing.T) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(r.grpc, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		RootCAs: r.roots, ServerName: "istiod.istio-system.svc",
	})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func ztunnel(node string) auth.Caller {
	return auth.Caller{Namespace: "ambit-system", ServiceAccount: "ambit-ztunnel", Node: node, Pod: "ztunnel-" + node, PodUID: "uid-" + node}
}

func withToken(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

// ztunnelLike is an xDS client as a real ztunnel behaves: written from the specification, not from the server.
type ztunnelLike struct {
	t      *testing.T
	stream discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	addr   map[string]*workload.Address
	pol    map[string]*authz.Authorization
	vers   map[string]map[string]string // type, name
	order  []string                     // "+name" and "-name" as they came
}

func (r *running) connect(t *testing.T, held map[string]map[string]string) *ztunnelLike {
	t.Helper()
	ctx, cancel := context.WithTimeout(withToken(context.Background(), r.key.mint(ztunnel("n1"))), timeout)
	t.Cleanup(cancel)
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(r.dial(t)).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	c := &ztunnelLike{
		t: t, stream: stream, addr: map[string]*workload.Address{}, pol: map[string]*authz.Authorization{},
		vers: map[string]map[string]string{workload.AddressTypeURL: {}, authz.TypeURL: {}},
	}
	meta, err := structpb.NewStruct(map[string]any{"NAMESPACE": "ambit-system", "NODE_NAME": "n1", "NAME": "ztunnel-x"})
	if err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{workload.AddressTypeURL, authz.TypeURL} {
		if err := stream.Send(&discovery.DeltaDiscoveryRequest{
			Node:    &core.Node{Id: "ztunnel~10.1.1.1~ztunnel-x.ambit-system~ambit-system.svc.cluster.local", Metadata: meta},
			TypeUrl: url, InitialResourceVersions: held[url],
		}); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// step takes one response and acknowledges it, or rejects it with a reason.
func (c *ztunnelLike) step(reject string) *discovery.DeltaDiscoveryResponse {
	c.t.Helper()
	res, err := c.stream.Recv()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, x := range res.Resources {
		c.order = append(c.order, "+"+x.Name)
		c.vers[res.TypeUrl][x.Name] = x.Version
		if res.TypeUrl == authz.TypeURL {
			p := &authz.Authorization{}
			if err := proto.Unmarshal(x.Resource.Value, p); err != nil {
				c.t.Fatal(err)
			}
			c.pol[x.Name] = p
			continue
		}
		a := &workload.Address{}
		if err := proto.Unmarshal(x.Resource.Value, a); err != nil {
			c.t.Fatal(err)
		}
		c.addr[x.Name] = a
	}
	for _, name := range res.RemovedResources {
		c.order = append(c.order, "-"+name)
		delete(c.vers[res.TypeUrl], name)
		delete(c.addr, name)
		delete(c.pol, name)
	}
	ack := &discovery.DeltaDiscoveryRequest{TypeUrl: res.TypeUrl, ResponseNonce: res.Nonce}
	if reject != "" {
		ack.ErrorDetail = status.New(codes.OK, reject).Proto()
	}
	if err := c.stream.Send(ack); err != nil {
		c.t.Fatal(err)
	}
	return res
}

// until takes responses until the client knows what it should.
func (c *ztunnelLike) until(what string, ok func() bool) {
	c.t.Helper()
	for !ok() {
		c.step("")
	}
}

const world = `
{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}, annotations: {}}
spec: {nodeName: n1, serviceAccountName: web}
status: {phase: Running, podIP: 10.0.0.1, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}
`

// proxies are the node proxies' own pods.
const proxies = `
{apiVersion: v1, kind: Pod, metadata: {name: ztunnel-n1, namespace: ambit-system, uid: uid-n1}, spec: {nodeName: n1, serviceAccountName: ambit-ztunnel}}
---
{apiVersion: v1, kind: Pod, metadata: {name: ztunnel-n2, namespace: ambit-system, uid: uid-n2}, spec: {nodeName: n2, serviceAccountName: ambit-ztunnel}}
`

const denyPolicy = `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web, namespace: shop}
spec: {selector: {matchLabels: {app: web}}, action: DENY, rules: [{from: [{source: {namespaces: [legacy]}}]}]}
`

const webUID = "Kubernetes//Pod/shop/web"

func TestEndToEnd(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) }) // the last clean-up to run
	base := t.TempDir()
	r := start(t, base)
	r.write(t, "world.yaml", world)
	c := r.connect(t, nil)
	c.until("the pod", func() bool { return c.addr[webUID] != nil && c.addr["shop/web.shop.svc.cluster.local"] != nil })

	// The agent's note makes the pod captured.
	if got := c.addr[webUID].GetWorkload().TunnelProtocol; got != workload.TunnelProtocol_NONE {
		t.Errorf("not captured, but %s", got)
	}
	r.write(t, "status/pods/shop_web.json", `{"annotations":{"ambient.istio.io/redirection":"enabled"}}`)
	c.until("hbone", func() bool { return c.addr[webUID].GetWorkload().TunnelProtocol == workload.TunnelProtocol_HBONE })

	// A policy comes before the workload that names it, and goes after.
	c.order = nil
	r.write(t, "policy.yaml", denyPolicy)
	c.until("the policy", func() bool { return len(c.addr[webUID].GetWorkload().AuthorizationPolicies) == 1 })
	if strings.Join(c.order, " ") != "+shop/web +"+webUID {
		t.Errorf("order of arrival: %v", c.order)
	}
	c.order = nil
	if err := os.Remove(filepath.Join(r.dir, "policy.yaml")); err != nil {
		t.Fatal(err)
	}
	c.until("no policy", func() bool { return len(c.pol) == 0 })
	if strings.Join(c.order, " ") != "+"+webUID+" -shop/web" {
		t.Errorf("order of removal: %v", c.order)
	}

	// A bad manifest is reported; what the file said last stays.
	r.write(t, "world.yaml", strings.Replace(world, "nodeName", "nodName", 1))
	r.write(t, "more.yaml", "{apiVersion: v1, kind: Service, metadata: {name: more, namespace: shop}, spec: {clusterIP: 10.96.0.2, ports: [{port: 1}]}}")
	c.until("the other file", func() bool { return c.addr["shop/more.shop.svc.cluster.local"] != nil })
	if c.addr[webUID] == nil {
		t.Error("a bad manifest removed what was there")
	}
	var dump struct {
		Problems []struct{ File, Field, Reason string }
	}
	get(t, "http://"+r.debug+"/debug/config", &dump)
	if len(dump.Problems) != 1 || dump.Problems[0].File != "world.yaml" || dump.Problems[0].Field != "spec.nodName" {
		t.Errorf("problems: %+v", dump.Problems)
	}
	for page, want := range map[string]string{
		"registryz": `"Attributes":{"Name":"web","Namespace":"shop"}`, "endpointz": `"uid":"` + webUID + `"`, "authorizationz": "[\n]\n",
		"configz": "[", "ambientz": `"policies": [`, "connections": `"totalClients": 1`, "list": "ambientz",
	} {
		var any any
		text := getText(t, "http://"+r.debug+"/debug/"+page)
		if err := json.Unmarshal([]byte(text), &any); err != nil || !strings.Contains(text+"\n", want) {
			t.Errorf("/debug/%s: %v in %s, want %s", page, err, text, want)
		}
	}
	if data, err := os.ReadFile(filepath.Join(r.dir, "status/problems.json")); err != nil || !strings.Contains(string(data), "spec.nodName") {
		t.Errorf("problems.json: %s %v", data, err)
	}
	r.write(t, "world.yaml", world)

	// A rejection is surfaced.
	r.write(t, "more.yaml", "{apiVersion: v1, kind: Service, metadata: {name: more, namespace: shop}, spec: {clusterIP: 10.96.0.3, ports: [{port: 1}]}}")
	c.step("cannot use it")
	var clients []struct {
		Proxy     string
		Resources map[string]struct{ LastError string }
	}
	for len(clients) == 0 || clients[0].Resources[workload.AddressTypeURL].LastError != "cannot use it" {
		get(t, "http://"+r.debug+"/debug/syncz", &clients)
	}
	if !strings.Contains(r.log.String(), "cannot use it") {
		t.Error("the rejection is not in the log")
	}
	if text := getText(t, "http://"+r.http+"/metrics"); !strings.Contains(text, `pilot_total_xds_rejects{type="Address"} 1`) {
		t.Error("the rejection is not counted")
	}

	// Reconnecting with everything, even to a new process, sends nothing but the answers.
	c.vers[workload.AddressTypeURL]["shop/gone.example"] = "x"
	held := c.vers
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r2 := start(t, base)
	c2 := r2.connect(t, held)
	for range 2 {
		if res := c2.step(""); len(res.Resources) > 0 {
			t.Errorf("resent %d of %s to a client that has them: %v", len(res.Resources), res.TypeUrl, c2.order)
		}
	}
	if got := strings.Join(c2.order, " "); got != "-shop/gone.example" {
		t.Errorf("told %q, want the one that is gone", got)
	}
	if err := r2.stop(); err != nil {
		t.Fatal(err)
	}
}

func TestCertificates(t *testing.T) {
	r := start(t, t.TempDir())
	r.write(t, "proxies.yaml", proxies)
	r.write(t, "world.yaml", world)
	c := r.connect(t, nil)
	c.until("the pod", func() bool { return c.addr[webUID] != nil })
	api := caapi.NewIstioCertificateServiceClient(r.dial(t))
	ask := func(caller auth.Caller, id, csrID string) (*caapi.IstioCertificateResponse, error) {
		ctx, cancel := context.WithTimeout(withToken(context.Background(), r.key.mint(caller)), timeout)
		defer cancel()
		meta, err := structpb.NewStruct(map[string]any{caapi.ImpersonatedIdentity: id})
		if err != nil {
			t.Fatal(err)
		}
		return api.CreateCertificate(ctx, &caapi.IstioCertificateRequest{Csr: csr(t, csrID), ValidityDuration: 60, Metadata: meta})
	}
	const web = "spiffe://cluster.local/ns/shop/sa/web"
	res, err := ask(ztunnel("n1"), web, web)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(res.CertChain[0]))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if len(cert.URIs) != 1 || cert.URIs[0].String() != web {
		t.Errorf("names %v", cert.URIs)
	}
	if left := time.Until(cert.NotAfter); left > time.Minute || left < 30*time.Second {
		t.Errorf("valid for %s, asked for 60 s", left)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(res.CertChain[len(res.CertChain)-1]))
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
	for _, tc := range []struct {
		name    string
		caller  auth.Caller
		id, csr string
		code    codes.Code
		text    string
	}{
		{"other node", ztunnel("n2"), web, web, codes.Unauthenticated, "no pod with identity"},
		{"replayed after its pod", auth.Caller{Namespace: "ambit-system", ServiceAccount: "ambit-ztunnel", Node: "n1", Pod: "ztunnel-n1", PodUID: "before"}, web, web, codes.Unauthenticated, "which does not run"},
		{"token without a pod", auth.Caller{Namespace: "ambit-system", ServiceAccount: "ambit-ztunnel", Node: "n1"}, web, web, codes.Unauthenticated, "bound to a pod"},
		{"not there", ztunnel("n1"), "spiffe://cluster.local/ns/shop/sa/cart", "spiffe://cluster.local/ns/shop/sa/cart", codes.Unauthenticated, "no pod with identity"},
		{"other mesh", ztunnel("n1"), "spiffe://evil/ns/shop/sa/web", web, codes.Unauthenticated, "trust domain"},
		{"not a node", auth.Caller{Namespace: "shop", ServiceAccount: "web", Node: "n1"}, web, web, codes.Unauthenticated, "may not ask"},
		{"other name in the request", ztunnel("n1"), web, "spiffe://cluster.local/ns/shop/sa/cart", codes.InvalidArgument, "want exactly"},
	} {
		_, err := ask(tc.caller, tc.id, tc.csr)
		if status.Code(err) != tc.code || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	if _, err := api.CreateCertificate(t.Context(), &caapi.IstioCertificateRequest{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("without a token: %v", err)
	}
	huge := &caapi.IstioCertificateRequest{Csr: strings.Repeat("x", 32<<20)} // refused before it is read
	if _, err := api.CreateCertificate(t.Context(), huge); status.Code(err) != codes.Unauthenticated {
		t.Errorf("a huge request without a token: %v", err)
	}
	if text := getText(t, "http://"+r.http+"/metrics"); !strings.Contains(text, `ambit_controller_certificates_refused_total{reason="not_on_node"} 2`) ||
		!strings.Contains(text, "citadel_server_success_cert_issuance_count 1") {
		t.Error("refusals are not counted")
	}
}

func TestRefusedClients(t *testing.T) {
	r := start(t, t.TempDir())
	api := discovery.NewAggregatedDiscoveryServiceClient(r.dial(t))
	good := &core.Node{Id: "ztunnel~10.1.1.1~z.ambit-system~x"}
	for _, tc := range []struct {
		name   string
		caller auth.Caller
		req    *discovery.DeltaDiscoveryRequest
		code   codes.Code
	}{
		{"another account", auth.Caller{Namespace: "shop", ServiceAccount: "web"}, &discovery.DeltaDiscoveryRequest{Node: good}, codes.PermissionDenied},
		{"no node", ztunnel("n1"), &discovery.DeltaDiscoveryRequest{TypeUrl: authz.TypeURL}, codes.InvalidArgument},
		{"bad id", ztunnel("n1"), &discovery.DeltaDiscoveryRequest{Node: &core.Node{Id: "x"}}, codes.InvalidArgument},
		{"other namespace", ztunnel("n1"), &discovery.DeltaDiscoveryRequest{Node: &core.Node{Id: "ztunnel~10.1.1.1~z.shop~x"}}, codes.PermissionDenied},
		{"unknown type", ztunnel("n1"), &discovery.DeltaDiscoveryRequest{Node: good, TypeUrl: "x"}, codes.InvalidArgument},
	} {
		ctx, cancel := context.WithTimeout(withToken(context.Background(), r.key.mint(tc.caller)), timeout)
		stream, err := api.DeltaAggregatedResources(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.Send(tc.req)
		if _, err := stream.Recv(); status.Code(err) != tc.code {
			t.Errorf("%s: %v, want %s", tc.name, err, tc.code)
		}
		cancel()
	}
}

func csr(t *testing.T, id string) string {
	t.Helper()
	_, text := keyAndCSR(t, id)
	return text
}

func get(t *testing.T, url string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(getText(t, url)), into); err != nil {
		t.Fatal(err)
	}
}

func getText(t *testing.T, url string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: timeout}
	res, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
