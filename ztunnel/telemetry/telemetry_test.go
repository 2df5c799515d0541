package telemetry_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
	"github.com/ambit-mesh/ambit/ztunnel/state"
	"github.com/ambit-mesh/ambit/ztunnel/telemetry"
)

var (
	webID  = spiffe.ID{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "web"}
	cartID = spiffe.ID{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "cart"}
)

// flow is an outbound connection from web to cart.
func flow() *telemetry.Flow {
	return &telemetry.Flow{
		Reporter: telemetry.Source,
		Source: telemetry.End{
			Workload: "web", Namespace: "shop", CanonicalService: "web", CanonicalRevision: "v1", App: "web",
			Cluster: "Kubernetes", Region: "r1", Zone: "z1", Principal: webID,
		},
		Destination: telemetry.End{
			Workload: "cart", Namespace: "shop", CanonicalService: "cart", CanonicalRevision: "v2", App: "cart",
			Cluster: "Kubernetes", Principal: cartID,
		},
		Service: telemetry.Service{Host: "cart.shop.svc.cluster.local", Namespace: "shop", Name: "cart"},
		Secure:  true,
		Client:  netip.MustParseAddrPort("10.0.0.1:4000"), Dial: netip.MustParseAddrPort("10.0.1.2:15008"),
		Authority: "10.0.1.2:8080", SourcePod: "web-1", DestinationPod: "cart-1", Plan: "hbone",
	}
}

func newTelemetry(t testing.TB, edit func(*telemetry.Config)) (*telemetry.Telemetry, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	cfg := telemetry.Config{Registerer: reg}
	if edit != nil {
		edit(&cfg)
	}
	tel, err := telemetry.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return tel, reg
}

func TestMetricsOfOneConnection(t *testing.T) {
	tel, reg := newTelemetry(t, nil)
	c := tel.Open(flow())
	c.RequestBytes.Add(10)
	c.ResponseBytes.Add(2000)

	labels := `connection_security_policy="mutual_tls",destination_app="cart",destination_canonical_revision="v2",destination_canonical_service="cart",` +
		`destination_cluster="Kubernetes",destination_principal="spiffe://cluster.local/ns/shop/sa/cart",destination_region="unknown",` +
		`destination_service="cart.shop.svc.cluster.local",destination_service_name="cart",destination_service_namespace="shop",` +
		`destination_version="v2",destination_workload="cart",destination_workload_namespace="shop",destination_zone="unknown",` +
		`reporter="source",request_protocol="tcp",response_flags="%s",source_app="web",source_canonical_revision="v1",` +
		`source_canonical_service="web",source_cluster="Kubernetes",source_principal="spiffe://cluster.local/ns/shop/sa/web",` +
		`source_region="r1",source_version="v1",source_workload="web",source_workload_namespace="shop",source_zone="z1"`
	want := func(opened, closed, failed, request, response int) string {
		var b strings.Builder
		line := func(name, help, flag string, v int) {
			fmt.Fprintf(&b, "# HELP istio_tcp_%s_total %s\n# TYPE istio_tcp_%[1]s_total counter\nistio_tcp_%[1]s_total{%[3]s} %[4]d\n",
				name, help, fmt.Sprintf(labels, flag), v)
		}
		line("connections_opened", "The total number of TCP connections opened.", "-", opened)
		line("connections_closed", "The total number of TCP connections closed.", "-", closed)
		if failed > 0 {
			line("connections_failed", "The total number of TCP connections that failed, by response_flags (unstable).", "CONNECT", failed)
		}
		line("sent_bytes", "The total number of bytes sent in response, on TCP connections.", "-", response)
		line("received_bytes", "The total number of bytes received in requests, on TCP connections.", "-", request)
		return b.String()
	}
	names := []string{
		"istio_tcp_connections_opened_total", "istio_tcp_connections_closed_total", "istio_tcp_connections_failed_total",
		"istio_tcp_sent_bytes_total", "istio_tcp_received_bytes_total",
	}
	check := func(when, text string) {
		t.Helper()
		if err := testutil.GatherAndCompare(reg, strings.NewReader(text), names...); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	check("while it lives", want(1, 0, 0, 10, 2000))
	c.RequestBytes.Add(5)
	check("later", want(1, 0, 0, 15, 2000))
	c.ResponseBytes.Add(1)
	c.Close(telemetry.Outcome{Flag: telemetry.FlagConnect, Err: errors.New("refused")})
	c.Close(telemetry.Outcome{}) // the second one does not count
	check("closed", want(1, 1, 1, 15, 2001))
}

func TestUnknownLabels(t *testing.T) {
	tel, reg := newTelemetry(t, nil)
	tel.Open(&telemetry.Flow{Reporter: telemetry.Destination, Source: telemetry.End{Workload: "bad\xffbaggage"}})
	for _, m := range family(t, reg, "istio_tcp_connections_opened_total").Metric {
		for _, l := range m.Label {
			want := "unknown"
			switch l.GetName() {
			case "reporter":
				want = "destination"
			case "request_protocol":
				want = "tcp"
			case "response_flags":
				want = "-"
			case "source_workload":
				want = "bad\uFFFDbaggage"
			}
			if l.GetValue() != want {
				t.Errorf("%s=%q, want %q", l.GetName(), l.GetValue(), want)
			}
		}
		if len(m.Label) != 27 {
			t.Errorf("%d labels", len(m.Label))
		}
	}
}

func TestFlags(t *testing.T) {
	tel, reg := newTelemetry(t, nil)
	for f := telemetry.FlagNone; f <= telemetry.FlagRevoked+1; f++ { // one beyond the last counts as unclassified
		tel.Open(flow()).Close(telemetry.Outcome{Flag: f})
	}
	got := map[string]float64{}
	for _, m := range family(t, reg, "istio_tcp_connections_failed_total").Metric {
		got[label(m, "response_flags")] = m.Counter.GetValue()
	}
	want := map[string]float64{"DENY": 1, "CONNECT": 1, "TLS_FAILURE": 1, "H2_HANDSHAKE_FAILURE": 1, "NETWORK_POLICY": 1, "IDENTITY_ERROR": 1, "CERT_REVOKED": 2}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v", got)
	}
}

// TestConcurrent: nothing is lost or counted twice while scrapes look at live connections.
func TestConcurrent(t *testing.T) {
	tel, reg := newTelemetry(t, nil)
	const workers, conns = 8, 200
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for range conns {
				f := flow()
				f.SourcePod = fmt.Sprint(w)
				f.Source.Workload = fmt.Sprint(w % 3)
				c := tel.Open(f)
				for range 10 {
					c.RequestBytes.Add(3)
					c.ResponseBytes.Add(7)
				}
				c.Close(telemetry.Outcome{})
			}
		})
	}
	stop := make(chan struct{})
	var scrapes sync.WaitGroup
	scrapes.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := reg.Gather(); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	wg.Wait()
	close(stop)
	scrapes.Wait()
	for name, want := range map[string]float64{
		"istio_tcp_connections_opened_total": workers * conns, "istio_tcp_connections_closed_total": workers * conns,
		"istio_tcp_received_bytes_total": workers * conns * 30, "istio_tcp_sent_bytes_total": workers * conns * 70,
	} {
		if got := sum(family(t, reg, name)); got != want {
			t.Errorf("%s = %v, want %v", name, got, want)
		}
	}
}

func TestOverflow(t *testing.T) {
	var lines strings.Builder
	log := telemetry.NewLog(telemetry.LogConfig{Out: &lines})
	tel, reg := newTelemetry(t, func(c *telemetry.Config) { c.MaxSeries, c.Log = 2, log })
	for i := range 5 {
		f := flow()
		f.Source.Workload = fmt.Sprintf("w%d", i)
		f.Source.Namespace = fmt.Sprintf("ns%d", i)
		c := tel.Open(f)
		c.RequestBytes.Add(1)
		c.Close(telemetry.Outcome{})
	}
	got := map[string]float64{}
	for _, m := range family(t, reg, "istio_tcp_received_bytes_total").Metric {
		got[label(m, "source_workload")] = m.Counter.GetValue()
	}
	if fmt.Sprint(got) != "map[overflow:3 w0:1 w1:1]" {
		t.Errorf("got %v", got)
	}
	if n := sum(family(t, reg, "ambit_ztunnel_traffic_series_overflow_total")); n != 3 {
		t.Errorf("%v connections overflowed", n)
	}
	drain(t, log)
	if s := lines.String(); !strings.Contains(s, `src.namespace="ns4"`) || strings.Contains(s, "overflow") {
		t.Errorf("the log tells of the overflow and not of the connection:\n%s", s)
	}
}

func TestStaleSeriesExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tel, reg := newTelemetry(t, func(c *telemetry.Config) { c.SeriesTTL, c.MaxSeries = time.Hour, 3 })
		short, long := flow(), flow()
		short.Source.Workload, long.Source.Workload = "short", "long"
		tel.Open(short).Close(telemetry.Outcome{})
		alive := tel.Open(long)
		series := func() string {
			var names []string
			for _, m := range family(t, reg, "istio_tcp_connections_opened_total").Metric {
				names = append(names, label(m, "source_workload"))
			}
			return strings.Join(names, " ")
		}
		time.Sleep(59 * time.Minute)
		if got := series(); got != "long short" {
			t.Errorf("before: %s", got)
		}
		time.Sleep(2 * time.Minute)
		if got := series(); got != "long" {
			t.Errorf("after: %s", got)
		}
		// A long connection keeps its series, and reports in it at the end.
		time.Sleep(10 * time.Hour)
		alive.RequestBytes.Add(9)
		alive.Close(telemetry.Outcome{})
		if n := sum(family(t, reg, "istio_tcp_received_bytes_total")); n != 9 {
			t.Errorf("%v bytes", n)
		}
		// At the limit stale series make room without a scrape.
		time.Sleep(2 * time.Hour)
		for i := range 3 {
			f := flow()
			f.Source.Workload = fmt.Sprintf("n%d", i)
			tel.Open(f)
		}
		if got := series(); got != "n0 n1 n2" {
			t.Errorf("at the limit: %s", got)
		}
	})
}

func TestDenials(t *testing.T) {
	tel, reg := newTelemetry(t, func(c *telemetry.Config) { c.MaxPolicies = 2 })
	deny := func(policy, reason string) {
		k, _ := state.ParseKey(policy)
		tel.Open(flow()).Close(telemetry.Outcome{Flag: telemetry.FlagDeny, Reason: reason, Policy: k})
	}
	deny("shop/a", "ExplicitDeny")
	deny("shop/a", "ExplicitDeny")
	deny("shop/b", "ExplicitDeny")
	deny("shop/c", "ExplicitDeny")
	deny("shop/d", "ExplicitDeny")
	deny("", "NoAllowMatched")
	tel.Open(flow()).Close(telemetry.Outcome{Flag: telemetry.FlagConnect, Refused: true, Reason: "NoEndpoints"})
	tel.Reject(flow(), "handshake", errors.New("no"))
	got := map[string]float64{}
	for _, m := range family(t, reg, "ambit_ztunnel_connections_denied_total").Metric {
		got[label(m, "policy")+" "+label(m, "reason")] = m.Counter.GetValue()
	}
	want := "map[none NoAllowMatched:1 overflow ExplicitDeny:2 shop/a ExplicitDeny:2 shop/b ExplicitDeny:1]"
	if fmt.Sprint(got) != want {
		t.Errorf("got %v", got)
	}
	for name, reason := range map[string]string{
		"ambit_ztunnel_connections_refused_total": "NoEndpoints", "ambit_ztunnel_connections_rejected_total": "handshake",
	} {
		m := family(t, reg, name).Metric
		if len(m) != 1 || label(m[0], "reason") != reason || m[0].Counter.GetValue() != 1 {
			t.Errorf("%s: %v", name, m)
		}
	}
}

func TestMetricNames(t *testing.T) {
	log := telemetry.NewLog(telemetry.LogConfig{Out: &strings.Builder{}})
	tel, reg := newTelemetry(t, func(c *telemetry.Config) { c.Log = log })
	ins, err := telemetry.NewInstruments(reg, telemetry.Build{Version: "1"})
	if err != nil {
		t.Fatal(err)
	}
	tel.Open(flow()).Close(telemetry.Outcome{Flag: telemetry.FlagDeny, Reason: "NoPolicy"})
	tel.Open(flow()).Close(telemetry.Outcome{Flag: telemetry.FlagConnect, Refused: true, Reason: "NoEndpoints"})
	tel.Reject(flow(), "handshake", errors.New("no"))
	q := telemetry.DNSQuery{Type: "A", Protocol: "udp"}
	ins.DNSRequest(q)
	ins.DNSUpstream(q, time.Second, true)
	ins.XDSMessage("type", 10)
	ins.XDSTerminated(telemetry.XDSError)
	ins.Sockets(telemetry.Source, 1)
	ins.ProxyStarted()
	ins.ProxyStopped()
	ins.ProxiesPending(3)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "workload_manager_") && strings.HasSuffix(p.Metric, "_proxy_count") {
			continue // Istio's names; dashboards know them
		}
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	unstable := map[string]bool{"istio_build": true}
	for _, stable := range []string{"connections_opened", "connections_closed", "sent_bytes", "received_bytes"} {
		unstable["istio_tcp_"+stable+"_total"] = true
	}
	for _, f := range families {
		istio := strings.HasPrefix(f.GetName(), "istio_") || strings.HasPrefix(f.GetName(), "workload_manager_")
		if istio && strings.Contains(f.GetHelp(), "(unstable)") == unstable[f.GetName()] {
			t.Errorf("%s: stability not as Istio declares it: %s", f.GetName(), f.GetHelp())
		}
		if istio && !strings.HasSuffix(f.GetHelp(), ".") {
			t.Errorf("%s: help does not end in a period", f.GetName())
		}
	}
}

func family(t testing.TB, g prometheus.Gatherer, name string) *dto.MetricFamily {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f
		}
	}
	t.Fatalf("no metric %s", name)
	return nil
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.Label {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return "(absent)"
}

func sum(f *dto.MetricFamily) (total float64) {
	for _, m := range f.Metric {
		total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
	}
	return total
}

func BenchmarkConnection(b *testing.B) {
	log := telemetry.NewLog(telemetry.LogConfig{Out: discard{}})
	tel, _ := newTelemetry(b, func(c *telemetry.Config) { c.Log = log })
	done := make(chan struct{})
	go func() { defer close(done); log.Run(b.Context()) }()
	f := flow()
	b.ReportAllocs()
	for b.Loop() {
		c := tel.Open(f)
		c.RequestBytes.Add(1)
		c.Close(telemetry.Outcome{})
	}
	b.StopTimer()
}

func BenchmarkScrape10000Connections(b *testing.B) {
	tel, reg := newTelemetry(b, nil)
	for i := range 10_000 {
		f := flow()
		f.Source.Workload = fmt.Sprint(i % 100)
		tel.Open(f)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := reg.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}
