package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ambit-mesh/ambit/ztunnel/state"
	"github.com/ambit-mesh/ambit/ztunnel/telemetry"
)

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// drain runs a log to its end.
func drain(t *testing.T, l *telemetry.Log) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Run(ctx); err != nil {
		t.Error(err)
	}
}

func record() *telemetry.Record {
	return &telemetry.Record{
		Flow: *flow(), End: time.Date(2026, 11, 24, 10, 0, 0, 123456789, time.UTC), Duration: 1500 * time.Millisecond,
		RequestBytes: 10, ResponseBytes: 2000, Outcome: telemetry.Outcome{Reason: "ExplicitAllow", Snapshot: 7, Close: "eof"},
	}
}

func TestLines(t *testing.T) {
	denied := record()
	denied.Reporter, denied.Plan, denied.Close = telemetry.Destination, "", ""
	denied.Outcome = telemetry.Outcome{
		Flag: telemetry.FlagDeny, Err: errors.New("denied by policy"), Reason: "ExplicitDeny",
		Policy: state.Key{Namespace: "shop", Name: "no-legacy"}, Snapshot: 8,
	}
	early := &telemetry.Record{
		Event: telemetry.EventFailed, End: denied.End, Flow: telemetry.Flow{Client: netip.MustParseAddrPort("[fd00::1]:5")},
		Outcome: telemetry.Outcome{Reason: "handshake", Err: errors.New("first line\nlevel=\"forged\" \xff")},
	}
	plaintext := record()
	plaintext.Secure, plaintext.Authority, plaintext.SourcePod = false, "", ""
	for _, tc := range []struct {
		name, text, json string
		r                *telemetry.Record
	}{
		{
			"complete", "2026-11-24T10:00:00.123456Z\tinfo\taccess\tconnection complete\tsrc.addr=10.0.0.1:4000 src.workload=\"web-1\" src.namespace=\"shop\" " +
				"src.identity=\"spiffe://cluster.local/ns/shop/sa/web\" src.cluster=\"Kubernetes\" dst.addr=10.0.1.2:15008 dst.hbone_addr=10.0.1.2:8080 " +
				"dst.service=\"cart.shop.svc.cluster.local\" dst.workload=\"cart-1\" dst.namespace=\"shop\" dst.identity=\"spiffe://cluster.local/ns/shop/sa/cart\" " +
				"dst.cluster=\"Kubernetes\" direction=\"outbound\" plan=\"hbone\" bytes_sent=10 bytes_recv=2000 duration=\"1500ms\" reason=\"ExplicitAllow\" snapshot=7 close=\"eof\"\n",
			`{"level":"info","time":"2026-11-24T10:00:00.123456Z","scope":"access","message":"connection complete","src.addr":"10.0.0.1:4000","src.workload":"web-1",` +
				`"src.namespace":"shop","src.identity":"spiffe://cluster.local/ns/shop/sa/web","src.cluster":"Kubernetes","dst.addr":"10.0.1.2:15008",` +
				`"dst.hbone_addr":"10.0.1.2:8080","dst.service":"cart.shop.svc.cluster.local","dst.workload":"cart-1","dst.namespace":"shop",` +
				`"dst.identity":"spiffe://cluster.local/ns/shop/sa/cart","dst.cluster":"Kubernetes","direction":"outbound","plan":"hbone","bytes_sent":10,` +
				`"bytes_recv":2000,"duration":"1500ms","reason":"ExplicitAllow","snapshot":7,"close":"eof"}` + "\n", record(),
		},
		{"denied, inbound", "2026-11-24T10:00:00.123456Z\terror\taccess\tconnection complete\tsrc.addr=10.0.0.1:4000 src.workload=\"web-1\" src.namespace=\"shop\" " +
			"src.identity=\"spiffe://cluster.local/ns/shop/sa/web\" src.cluster=\"Kubernetes\" dst.addr=10.0.1.2:15008 dst.hbone_addr=10.0.1.2:8080 " +
			"dst.service=\"cart.shop.svc.cluster.local\" dst.workload=\"cart-1\" dst.namespace=\"shop\" dst.identity=\"spiffe://cluster.local/ns/shop/sa/cart\" " +
			"dst.cluster=\"Kubernetes\" direction=\"inbound\" bytes_sent=2000 bytes_recv=10 duration=\"1500ms\" policy=\"shop/no-legacy\" reason=\"ExplicitDeny\" snapshot=8 error=\"denied by policy\"\n", "", denied},
		{"plaintext, no pod name", "2026-11-24T10:00:00.123456Z\tinfo\taccess\tconnection complete\tsrc.addr=10.0.0.1:4000 src.workload=\"web\" src.namespace=\"shop\" " +
			"src.cluster=\"Kubernetes\" dst.addr=10.0.1.2:15008 dst.service=\"cart.shop.svc.cluster.local\" dst.workload=\"cart-1\" dst.namespace=\"shop\" " +
			"dst.cluster=\"Kubernetes\" direction=\"outbound\" plan=\"hbone\" bytes_sent=10 bytes_recv=2000 duration=\"1500ms\" reason=\"ExplicitAllow\" snapshot=7 close=\"eof\"\n", "", plaintext},
		{
			"hostile error", "2026-11-24T10:00:00.123456Z\twarn\taccess\tconnection failed\tsrc.addr=[fd00::1]:5 direction=\"outbound\" reason=\"handshake\" " +
				"error=\"first line\\nlevel=\\\"forged\\\" \\xff\"\n",
			`{"level":"warn","time":"2026-11-24T10:00:00.123456Z","scope":"access","message":"connection failed","src.addr":"[fd00::1]:5","direction":"outbound",` +
				`"reason":"handshake","error":"first line\u000alevel=\"forged\" ` + "\uFFFD" + `"}` + "\n", early,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := string(telemetry.AppendText(nil, tc.r)); got != tc.text {
				t.Errorf("text\n got %s want %s", got, tc.text)
			}
			if got := string(telemetry.AppendJSON(nil, tc.r)); tc.json != "" && got != tc.json {
				t.Errorf("json\n got %s want %s", got, tc.json)
			}
		})
	}
}

// FuzzLine: whatever a peer manages to get into a record, a line is one line, and JSON is JSON with those fields.
func FuzzLine(f *testing.F) {
	f.Add("10.0.0.1:80", "error", "name")
	f.Add("a b=\"c\"\n", "\x00\xff\u2028", "\\")
	f.Fuzz(func(t *testing.T, authority, message, name string) {
		r := record()
		r.Authority, r.Err, r.SourcePod = authority, errors.New(message), name
		text := telemetry.AppendText(nil, r)
		if bytes.IndexByte(text, '\n') != len(text)-1 || bytes.Count(text, []byte{'\t'}) != 4 {
			t.Errorf("not one line: %q", text)
		}
		line := telemetry.AppendJSON(nil, r)
		if bytes.IndexByte(line, '\n') != len(line)-1 {
			t.Errorf("not one line: %q", line)
		}
		var m map[string]any
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		if m["direction"] != "outbound" || m["reason"] != "ExplicitAllow" {
			t.Errorf("a field was forged: %q", line)
		}
		if len(text) > 16<<10 || len(line) > 32<<10 {
			t.Errorf("lines of %d and %d bytes", len(text), len(line))
		}
	})
}

// stalled is an output that takes nothing until it is let go.
type stalled struct {
	release chan struct{}
	got     bytes.Buffer
}

func (s *stalled) Write(b []byte) (int, error) {
	<-s.release
	return s.got.Write(b)
}

// TestStalledOutput: connections go on, the queue is bounded, what is lost is counted, the rest arrives in order.
func TestStalledOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &stalled{release: make(chan struct{})}
		log := telemetry.NewLog(telemetry.LogConfig{Out: out, Queue: 10})
		tel, reg := newTelemetry(t, func(c *telemetry.Config) { c.Log = log })
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- log.Run(ctx) }()
		tel.Open(flow()).Close(telemetry.Outcome{})
		synctest.Wait() // the writer is stuck with the first line
		for range 25 {
			tel.Open(flow()).Close(telemetry.Outcome{})
		}
		if n := sum(family(t, reg, "ambit_ztunnel_access_log_lost_total")); n != 15 {
			t.Errorf("%v lost", n)
		}
		cancel()
		close(out.release)
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if n := strings.Count(out.got.String(), "\n"); n != 11 {
			t.Errorf("%d lines", n)
		}
	})
}

// TestDeadReader: a pipe whose reader never reads does not hold up the end of the process.
func TestDeadReader(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	log := telemetry.NewLog(telemetry.LogConfig{Out: w, Queue: 5000})
	tel, _ := newTelemetry(t, func(c *telemetry.Config) { c.Log = log })
	for range 5000 { // more than a pipe holds
		tel.Open(flow()).Close(telemetry.Outcome{})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := log.Run(ctx); err == nil {
		t.Error("5000 lines fit into a pipe")
	} else if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("gone") }

func TestBrokenOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := telemetry.NewLog(telemetry.LogConfig{Out: broken{}})
		tel, reg := newTelemetry(t, func(c *telemetry.Config) { c.Log = log })
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- log.Run(ctx) }()
		tel.Open(flow()).Close(telemetry.Outcome{})
		synctest.Wait()
		if n := sum(family(t, reg, "ambit_ztunnel_access_log_write_errors_total")); n != 1 {
			t.Errorf("%v write errors", n)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestLevels(t *testing.T) {
	for level, want := range map[slog.Level]string{
		slog.LevelDebug: "opened complete complete failed", slog.LevelInfo: "complete complete failed",
		slog.LevelWarn: "complete failed", slog.LevelError: "complete",
	} {
		var out bytes.Buffer
		log := telemetry.NewLog(telemetry.LogConfig{Out: &out, JSON: true, Level: level})
		tel, _ := newTelemetry(t, func(c *telemetry.Config) { c.Log = log })
		tel.Open(flow()).Close(telemetry.Outcome{})
		c := tel.Open(flow())
		c.Close(telemetry.Outcome{Err: errors.New("no")})
		tel.Reject(flow(), "handshake", errors.New("no"))
		drain(t, log)
		var got []string
		for line := range strings.Lines(out.String()) {
			var m map[string]any
			if err := json.Unmarshal([]byte(line), &m); err != nil {
				t.Fatal(err)
			}
			word := strings.Fields(m["message"].(string))[1]
			if word != "opened" || len(got) == 0 { // two were opened
				got = append(got, word)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%v: %v, want %s", level, got, want)
		}
	}
}

func BenchmarkLine(b *testing.B) {
	r := record()
	buf := make([]byte, 0, 4096)
	b.Run("text", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buf = telemetry.AppendText(buf[:0], r)
		}
	})
	b.Run("json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buf = telemetry.AppendJSON(buf[:0], r)
		}
	})
}
