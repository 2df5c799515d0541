package admin_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ambit-mesh/ambit/ztunnel/admin"
	"github.com/ambit-mesh/ambit/ztunnel/cert"
	"github.com/ambit-mesh/ambit/ztunnel/cert/certtest"
)

// serve runs the servers on loopback ports for the length of the test.
func serve(t *testing.T, edit func(*admin.Config)) (*admin.Server, *admin.Config) {
	t.Helper()
	cfg := &admin.Config{
		Log:   slog.New(slog.DiscardHandler),
		Admin: []string{"127.0.0.1:0"}, Metrics: []string{"127.0.0.1:0"}, Ready: []string{"127.0.0.1:0"},
		Readiness: &admin.Readiness{}, Gatherer: prometheus.NewRegistry(), Level: &slog.LevelVar{}, Quit: func() {},
	}
	if edit != nil {
		edit(cfg)
	}
	s, err := admin.New(t.Context(), *cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s, cfg
}

func call(t *testing.T, method, url string, header ...string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body), resp.Header
}

func url(s *admin.Server, kind, path string) string {
	return fmt.Sprintf("http://%s%s", s.Addrs(kind)[0], path)
}

func TestReadiness(t *testing.T) {
	s, cfg := serve(t, nil)
	ready := url(s, "ready", "/healthz/ready")
	zs, as := cfg.Readiness.Pending("state manager"), cfg.Readiness.Pending("certificate")
	expect := func(wantCode int, wantBody string) {
		t.Helper()
		if code, body, _ := call(t, "GET", ready); code != wantCode || body != wantBody {
			t.Errorf("%d %q, want %d %q", code, body, wantCode, wantBody)
		}
	}
	expect(500, "not ready, pending: certificate, state manager\n")
	zs()
	zs()
	expect(500, "not ready, pending: certificate\n")
	as()
	expect(200, "ready\n")
	if code, _, _ := call(t, "GET", url(s, "ready", "/config_dump")); code != 404 {
		t.Errorf("the readiness port serves the dump: %d", code)
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "x_total", Help: "X."})
	reg.MustRegister(c)
	c.Inc()
	s, _ := serve(t, func(c *admin.Config) { c.Gatherer = reg })
	for _, path := range []string{"/metrics", "/stats/prometheus"} {
		code, body, header := call(t, "GET", url(s, "metrics", path))
		if code != 200 || !strings.Contains(body, "\nx_total 1\n") || !strings.HasPrefix(header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s: %d %q %q", path, code, header.Get("Content-Type"), body)
		}
		code, body, header = call(t, "GET", url(s, "metrics", path), "Accept", "application/openmetrics-text; version=1.0.0")
		if code != 200 || !strings.HasSuffix(body, "# EOF\n") || !strings.HasPrefix(header.Get("Content-Type"), "application/openmetrics-text") {
			t.Errorf("%s: %d %q %q", path, code, header.Get("Content-Type"), body)
		}
	}
}

func TestLogging(t *testing.T) {
	s, cfg := serve(t, nil)
	for _, tc := range []struct {
		method, query string
		code          int
		level         slog.Level
	}{
		{"POST", "", 200, slog.LevelInfo},
		{"POST", "?level=debug", 200, slog.LevelDebug},
		{"POST", "?level=nonsense", 400, slog.LevelDebug},
		{"POST", "?level=access=debug", 400, slog.LevelDebug},
		{"GET", "?level=error", 405, slog.LevelDebug},
		{"POST", "?reset", 200, slog.LevelInfo},
		{"POST", "?reset&level=warn", 200, slog.LevelWarn},
	} {
		code, body, _ := call(t, tc.method, url(s, "admin", "/logging"+tc.query))
		if code != tc.code || cfg.Level.Level() != tc.level {
			t.Errorf("%s %s: %d %q, level %v", tc.method, tc.query, code, body, cfg.Level.Level())
		}
		if want := "current log level is " + strings.ToLower(tc.level.String()) + "\n"; code == 200 && body != want {
			t.Errorf("%s: %q", tc.query, body)
		}
	}
}

func TestQuit(t *testing.T) {
	var quits atomic.Int32
	s, _ := serve(t, func(c *admin.Config) { c.Quit = func() { quits.Add(1) } })
	if code, _, _ := call(t, "GET", url(s, "admin", "/quitquitquit")); code != 405 || quits.Load() != 0 {
		t.Errorf("GET: %d, %d quits", code, quits.Load())
	}
	if code, _, _ := call(t, "POST", url(s, "admin", "/quitquitquit")); code != 200 || quits.Load() != 1 {
		t.Errorf("POST: %d, %d quits", code, quits.Load())
	}
}

func TestProfiles(t *testing.T) {
	s, _ := serve(t, nil)
	if code, body, _ := call(t, "GET", url(s, "admin", "/debug/pprof/goroutine?debug=1")); code != 200 || !strings.Contains(body, "goroutine profile") {
		t.Errorf("goroutine: %d", code)
	}
	if code, _, _ := call(t, "GET", url(s, "admin", "/debug/pprof/profile?seconds=301")); code != 400 {
		t.Errorf("301 s: %d", code)
	}
	if code, _, _ := call(t, "GET", url(s, "admin", "/debug/pprof/profile?seconds=1")); code != 200 {
		t.Errorf("1 s: %d", code)
	}
}

// TestDump reads the dump with the shapes that istioctl's configdump package has.
func TestDump(t *testing.T) {
	ca := certtest.New(t)
	crt := ca.Issue(t, certtest.ID("shop/web"))
	meant := "cart.shop"
	s, _ := serve(t, func(c *admin.Config) {
		c.Dump = admin.Sources{
			State: func() any {
				return map[string]any{"workloads": []any{map[string]string{"uid": "w1"}}, "services": []any{}, "extra": 1}
			},
			Certificates: func() []cert.Status {
				return []cert.Status{
					{Identity: crt.ID, State: "Available", Chain: crt.Chain, Roots: crt.Roots},
					{Identity: certtest.ID("shop/cart"), State: "Unavailable: no"},
				}
			},
			Pods: func() map[string]admin.Pod {
				return map[string]admin.Pod{"uid-1": {
					State: admin.Up, Info: admin.PodInfo{Name: "web-1", Namespace: "shop", ServiceAccount: "web"},
					Connections: admin.Connections{Inbound: []admin.Connection{{Src: "10.0.0.1:1", OriginalDst: &meant, ActualDst: "10.0.0.2:80", Protocol: "HBONE"}}},
				}}
			},
			Version: admin.Version{Version: "v0", GoVersion: "go1"}, Config: map[string]string{"nodeName": "n1"},
		}
	})
	code, body, header := call(t, "GET", url(s, "admin", "/config_dump"))
	if code != 200 || header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d %s", code, body)
	}
	var dump struct {
		Workloads, Services, Policies []json.RawMessage
		StagedServices, StaticConfig  map[string]any
		Version                       struct{ Version, GoVersion string }
		Config                        map[string]string
		Certificates                  []struct {
			Identity, State      string
			CertChain, RootCerts []struct{ Pem, SerialNumber, ValidFrom, ExpirationTime string }
		}
		WorkloadState map[string]struct {
			State       string
			Connections struct {
				Inbound, Outbound []struct {
					Src, ActualDst, Protocol string
					OriginalDst              *string
				}
			}
			Info struct{ Name, Namespace, ServiceAccount string }
		}
	}
	if err := json.Unmarshal([]byte(body), &dump); err != nil {
		t.Fatal(err)
	}
	if len(dump.Workloads) != 1 || dump.Services == nil || dump.Policies == nil || dump.StagedServices == nil || dump.StaticConfig == nil {
		t.Errorf("state: %s", body)
	}
	if dump.Version.Version != "v0" || dump.Config["nodeName"] != "n1" {
		t.Errorf("version %+v, config %v", dump.Version, dump.Config)
	}
	if len(dump.Certificates) != 2 || dump.Certificates[1].State != "Unavailable: no" || dump.Certificates[1].CertChain == nil {
		t.Fatalf("certificates %+v", dump.Certificates)
	}
	leaf := dump.Certificates[0].CertChain[0]
	text, err := base64.StdEncoding.DecodeString(leaf.Pem)
	if err != nil || !strings.HasPrefix(string(text), "-----BEGIN CERTIFICATE-----") || leaf.SerialNumber != crt.Leaf().SerialNumber.String() {
		t.Errorf("leaf %+v: %v", leaf, err)
	}
	if at, err := time.Parse(time.RFC3339, leaf.ExpirationTime); err != nil || !at.Equal(crt.NotAfter()) {
		t.Errorf("expires %v: %v", leaf.ExpirationTime, err)
	}
	pod := dump.WorkloadState["uid-1"]
	if pod.State != "Up" || pod.Info.Name != "web-1" || len(pod.Connections.Inbound) != 1 || *pod.Connections.Inbound[0].OriginalDst != meant || pod.Connections.Outbound == nil {
		t.Errorf("pod %+v", pod)
	}
	if strings.Contains(body, "PRIVATE") {
		t.Error("a private key in the dump")
	}
}

func TestEmptyDump(t *testing.T) {
	s, _ := serve(t, nil)
	code, body, _ := call(t, "GET", url(s, "admin", "/config_dump"))
	var dump map[string]json.RawMessage
	if err := json.Unmarshal([]byte(body), &dump); code != 200 || err != nil || string(dump["workloads"]) != "[]" || string(dump["certificates"]) != "[]" {
		t.Errorf("%d %v %s", code, err, body)
	}
}

// TestBadRequests: what a client may send wrong ends its own connection and nothing else.
func TestBadRequests(t *testing.T) {
	s, _ := serve(t, nil)
	for name, request := range map[string]string{
		"huge header": "GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 64<<10) + "\r\n\r\n",
		"not HTTP":    "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
		"slow header": "GET / HTTP/1.1\r\nHost: x\r\n", // and nothing more
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", s.Addrs("admin")[0].String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(20 * time.Second))
			_, _ = io.WriteString(conn, request) // the server may close before it has read all
			line, _ := bufio.NewReader(conn).ReadString('\n')
			if line != "" && !strings.HasPrefix(line, "HTTP/1.1 4") {
				t.Errorf("answer %q", line)
			}
		})
	}
	if code, _, _ := call(t, "GET", url(s, "admin", "/")); code != 200 {
		t.Errorf("afterwards: %d", code)
	}
}

func TestListenErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := admin.Config{
		Log: slog.New(slog.DiscardHandler), Readiness: &admin.Readiness{}, Gatherer: prometheus.NewRegistry(), Level: &slog.LevelVar{}, Quit: func() {},
		Admin: []string{"127.0.0.1:0", l.Addr().String()},
	}
	if _, err := admin.New(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "admin: admin: listen") {
		t.Errorf("a taken port: %v", err)
	}
	if _, err := admin.New(t.Context(), admin.Config{}); err == nil {
		t.Error("an empty configuration")
	}
}
