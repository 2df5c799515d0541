// Package telemetry answers what happened: one record per connection, as Istio's TCP metrics, our own counters of
// denials, and one access log line.
//
// It observes and never decides: the shells (inbound, outbound) tell it what they did. It serves nothing over HTTP (admin
// does) and knows no sockets. Nothing here blocks the data path: byte counts are one uncontended atomic add, a log line is
// one non-blocking send, and both series and lines are bounded and lossy with a count of what was lost.
//
// A Telemetry and a Log are safe for concurrent use; of a Conn only its byte counters and Close are.
package telemetry

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config is what a Telemetry needs. Zero numbers mean the defaults named.
type Config struct {
	// Registerer receives the metrics.
	Registerer prometheus.Registerer
	// Log receives a record of each connection that ends; nil for none.
	Log *Log
	// MaxSeries bounds the label combinations of the TCP metrics: 10,000. What is beyond it counts in series whose labels
	// say "overflow".
	MaxSeries int
	// SeriesTTL is how long a combination without connections stays: 15 min.
	SeriesTTL time.Duration
	// MaxPolicies bounds the policy names in labels: 256. What is beyond it counts under "overflow".
	MaxPolicies int
}

// Telemetry counts connections.
type Telemetry struct {
	table   *table
	log     *Log
	denials *denials
}

// New makes a Telemetry and registers its metrics.
func New(cfg Config) (*Telemetry, error) {
	if cfg.Registerer == nil {
		return nil, errors.New("telemetry: a registerer is required")
	}
	if cfg.MaxSeries <= 0 {
		cfg.MaxSeries = 10_000
	}
	if cfg.SeriesTTL <= 0 {
		cfg.SeriesTTL = 15 * time.Minute
	}
	if cfg.MaxPolicies <= 0 {
		cfg.MaxPolicies = 256
	}
	t := &Telemetry{table: newTable(cfg.MaxSeries, cfg.SeriesTTL), log: cfg.Log, denials: newDenials(cfg.MaxPolicies)}
	collectors := append(t.denials.collectors(), t.table)
	if cfg.Log != nil {
		collectors = append(collectors, cfg.Log.collectors()...)
	}
	for _, c := range collectors {
		if err := cfg.Registerer.Register(c); err != nil {
			return nil, fmt.Errorf("telemetry: %w", err)
		}
	}
	return t, nil
}

// Open counts a connection as opened and returns the handle by which it is followed. Shells call it once they know both
// ends, before they connect or authorize. f is not kept.
func (t *Telemetry) Open(f *Flow) *Conn {
	c := &Conn{
		t: t, start: f.Start, meter: f.Meter, client: f.Client, dial: f.Dial, authority: f.Authority,
		sourcePod: f.SourcePod, destinationPod: f.DestinationPod, plan: f.Plan,
	}
	if c.start.IsZero() {
		c.start = time.Now()
	}
	t.table.open(c, key{Reporter: f.Reporter, Source: f.Source, Destination: f.Destination, Service: f.Service, Secure: f.Secure})
	if t.log.wantsOpened() {
		t.log.write(c.record(Outcome{}, eventOpened))
	}
	return c
}

// Reject records a connection that ended before it could be said whose it is (no original destination, over a limit, a
// failed handshake). why is a short constant: it is a label. err is what the log says.
func (t *Telemetry) Reject(f *Flow, why string, err error) {
	t.denials.reject(why)
	t.log.write(&Record{Event: EventFailed, End: time.Now(), Flow: *f, Outcome: Outcome{Reason: why, Err: err}})
}
