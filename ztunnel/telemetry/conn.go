package telemetry

import (
	"net/netip"
	"sync/atomic"
	"time"
)

// Conn follows one connection from Open to Close. It is about 300 bytes: an idle connection must stay cheap.
type Conn struct {
	// RequestBytes counts bytes from the client to the server and ResponseBytes those back. Whoever copies adds to them;
	// scrapes see them at once.
	RequestBytes, ResponseBytes atomic.Uint64

	meter  Meter // counts the rest; may be nil
	t      *Telemetry
	series *series
	ends   *key // what the series stands for; its own where the series is an overflow
	closed atomic.Bool

	// Guarded by series.mu: the bytes already counted in it, and its list of live connections.
	requestCounted, responseCounted uint64
	prev, next                      *Conn

	start                     time.Time
	client, dial              netip.AddrPort
	authority                 string
	sourcePod, destinationPod string
	plan                      string
}

// Close counts the connection as closed (and failed or denied where o says so) and writes its log line. Only the first
// call counts.
func (c *Conn) Close(o Outcome) {
	if !c.closed.CompareAndSwap(false, true) {
		return
	}
	c.series.close(c, o.Flag, time.Now())
	c.t.denials.count(o)
	if c.t.log != nil {
		c.t.log.write(c.record(o, EventComplete))
	}
}

// Closed says that Close was called.
func (c *Conn) Closed() bool { return c.closed.Load() }

// bytes are all that were counted so far.
func (c *Conn) bytes() (request, response uint64) {
	request, response = c.RequestBytes.Load(), c.ResponseBytes.Load()
	if c.meter != nil {
		more, back := c.meter.Bytes()
		request, response = request+more, response+back
	}
	return request, response
}

// Age is the time since Open.
func (c *Conn) Age() time.Duration { return time.Since(c.start) }

// record is the value that tells it all.
func (c *Conn) record(o Outcome, event Event) *Record {
	now := time.Now()
	request, response := c.bytes()
	return &Record{
		Event: event, End: now, Duration: now.Sub(c.start), Outcome: o,
		RequestBytes: request, ResponseBytes: response,
		Flow: Flow{
			Reporter: c.ends.Reporter, Source: c.ends.Source, Destination: c.ends.Destination, Service: c.ends.Service,
			Secure: c.ends.Secure, Client: c.client, Dial: c.dial, Authority: c.authority,
			SourcePod: c.sourcePod, DestinationPod: c.destinationPod, Plan: c.plan,
		},
	}
}
