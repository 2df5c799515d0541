package telemetry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ambit-mesh/ambit/ztunnel/telemetry"
)

// lines collects what a log writes.
type lines struct {
	mu  sync.Mutex
	all strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(b)
}

// count tells how many connections have a line, by reason, and what the summaries say together. It forgets them.
func (l *lines) count(t *testing.T) (lines, suppressed map[string]int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	lines, suppressed = map[string]int{}, map[string]int{}
	for line := range strings.Lines(l.all.String()) {
		var m struct {
			Message, Reason string
			Count           int
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		if m.Message == "connection lines suppressed" {
			suppressed[m.Reason] += m.Count
		} else {
			lines[m.Reason]++
		}
	}
	l.all.Reset()
	return lines, suppressed
}

func wantCounts(t *testing.T, what string, got, want map[string]int) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// A flood has its first lines and then a few a second; every connection counts, and those that were served have their lines.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := new(lines)
		log := telemetry.NewLog(telemetry.LogConfig{Out: out, JSON: true})
		tel, reg := newTelemetry(t, func(c *telemetry.Config) { c.Log = log })
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- log.Run(ctx) }()
		no := errors.New("no")
		wave := func() {
			for range 250 {
				tel.Reject(flow(), "Handshake", no)
				tel.Open(flow()).Close(telemetry.Outcome{Flag: telemetry.FlagDeny, Err: no, Unserved: true, Reason: "ExplicitDeny"})
				tel.Open(flow()).Close(telemetry.Outcome{Refused: true, Err: no, Unserved: true, Reason: "NoEndpoints"})
				tel.Open(flow()).Close(telemetry.Outcome{Flag: telemetry.FlagConnect, Err: no, Unserved: true, Reason: "ToWorkload"})
				tel.Open(flow()).Close(telemetry.Outcome{Reason: "served"})
				tel.Open(flow()).Close(telemetry.Outcome{Flag: telemetry.FlagDeny, Err: no, Reason: "cut later"})
			}
			tel.Reject(flow(), "ConnectionLimit", no)
		}
		wave()
		synctest.Wait()
		first, told := out.count(t)
		wantCounts(t, "lines at once", first, map[string]int{
			"Handshake": 100, "ExplicitDeny": 100, "NoEndpoints": 100, "ToWorkload": 100, "served": 250, "cut later": 250, "ConnectionLimit": 1,
		})
		wantCounts(t, "summary at once", told, map[string]int{})
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		first, told = out.count(t)
		wantCounts(t, "lines while nothing happens", first, map[string]int{})
		wantCounts(t, "summary", told, map[string]int{"Handshake": 150, "ExplicitDeny": 150, "NoEndpoints": 150, "CONNECT": 150})
		time.Sleep(time.Minute)
		synctest.Wait()
		_, told = out.count(t)
		wantCounts(t, "summary while nothing happens", told, map[string]int{})

		for range 5 { // of a flood that goes on, ten a second
			time.Sleep(time.Second)
			for range 1000 {
				tel.Reject(flow(), "Handshake", no)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		first, told = out.count(t)
		wantCounts(t, "lines of a lasting flood", first, map[string]int{"Handshake": 140})
		wantCounts(t, "summary of a lasting flood", told, map[string]int{"Handshake": 4860})
		for name, want := range map[string]float64{
			"ambit_ztunnel_connections_rejected_total":  5251,
			"ambit_ztunnel_connections_denied_total":    500,
			"ambit_ztunnel_connections_refused_total":   250,
			"istio_tcp_connections_closed_total":        1250,
			"ambit_ztunnel_access_log_suppressed_total": 4860 + 4*150,
			"ambit_ztunnel_access_log_lost_total":       0,
		} {
			if got := sum(family(t, reg, name)); got != want {
				t.Errorf("%s: %v, want %v", name, got, want)
			}
		}
	})
}

// Reasons are constants; were they not, a peer that invents them would still be limited.
func TestFloodOfReasons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := new(lines)
		log := telemetry.NewLog(telemetry.LogConfig{Out: out, JSON: true, Rate: 1, Burst: 1})
		tel, reg := newTelemetry(t, func(c *telemetry.Config) { c.Log = log })
		for i := range 1000 {
			tel.Reject(flow(), fmt.Sprint("reason ", i), errors.New("no"))
		}
		drain(t, log)
		got, told := out.count(t)
		if len(got) != 65 { // 64 reasons, and one for all others
			t.Errorf("lines of %d reasons", len(got))
		}
		wantCounts(t, "summary", told, map[string]int{"overflow": 935})
		if n := len(family(t, reg, "ambit_ztunnel_access_log_suppressed_total").GetMetric()); n != 65 {
			t.Errorf("%d series", n)
		}
	})
}
