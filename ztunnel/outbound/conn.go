package outbound

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/ambit-mesh/ambit/ztunnel/hbone"
	"github.com/ambit-mesh/ambit/ztunnel/inpod"
	"github.com/ambit-mesh/ambit/ztunnel/outcome"
	"github.com/ambit-mesh/ambit/ztunnel/passthrough"
	"github.com/ambit-mesh/ambit/ztunnel/policy"
	"github.com/ambit-mesh/ambit/ztunnel/route"
	"github.com/ambit-mesh/ambit/ztunnel/telemetry"
)

// conn is one connection. It is kept small: an idle one is this, a goroutine, a socket and a stream. It is a shift.Job once it is
// established.
type conn struct {
	pod          *inpod.Pod
	app          *net.TCPConn
	client, dest netip.AddrPort
	start        time.Time

	bytes   hbone.Counters // of a tunnel's relay
	inner   func()         // ends the tunnel within the tunnel, if there is one
	record  *telemetry.Conn
	version uint64 // of the snapshot it was routed by

	mu     sync.Mutex
	stream *hbone.Stream // either of these is where it goes
	plain  *net.TCPConn
	relay  *hbone.Relay // between app and stream, once they are there
	kind   route.Kind
	reason route.Reason
	dial   netip.AddrPort
	why    inpod.Cause // not none: it was cut
}

// Bytes implements telemetry.Meter.
func (c *conn) Bytes() (request, response uint64) {
	return uint64(c.bytes.ToStream.Load()), uint64(c.bytes.FromStream.Load())
}

// Judged implements inpod.Connection: policy judges where connections arrive.
func (c *conn) Judged() policy.Conn { return policy.Conn{} }

// Cut implements inpod.Connection.
func (c *conn) Cut(why inpod.Cause, _ policy.Decision) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why != inpod.CauseNone {
		return
	}
	c.why = why
	c.endLocked()
}

// endLocked resets whatever there is.
func (c *conn) endLocked() {
	passthrough.Reset(c.app)
	if c.plain != nil {
		passthrough.Reset(c.plain)
	}
	if c.stream != nil {
		c.stream.Reset(http2.ErrCodeConnect)
	}
}

// established says that setting up is over; an error if it was cut meanwhile.
func (c *conn) established() (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why != inpod.CauseNone {
		c.endLocked()
		return outcome.Cut{Why: c.why}
	}
	if c.stream != nil {
		c.relay, err = hbone.NewRelay(c.app, c.stream, &c.bytes)
	}
	return err
}

// End implements shift.Job.
func (c *conn) End() {
	c.lost()
	if c.inner != nil {
		c.inner()
	}
	c.pod.Untrack(c)
}

// lost ends what a bug has left: a connection whose record is open although its job is over.
func (c *conn) lost() {
	if c.record != nil && c.record.Closed() {
		return
	}
	c.mu.Lock()
	c.endLocked()
	c.mu.Unlock()
	if c.record != nil {
		c.record.Close(outcome.Bug())
	}
}

// Shift implements shift.Job: it copies until both directions have ended, and records how, or until it shall rest. It keeps its
// frame small.
func (c *conn) Shift() (again bool) {
	defer c.pod.Guard("outbound") // after a panic it is over
	if c.relay == nil {
		c.plainEnded(passthrough.Relay(c.app, c.plain, &c.record.RequestBytes, &c.record.ResponseBytes))
		return false
	}
	result, over := c.relay.Run()
	if over {
		c.tunnelEnded(result)
	}
	return !over
}

// Rest implements inpod.Connection.
func (c *conn) Rest() bool {
	c.mu.Lock()
	r := c.relay
	c.mu.Unlock()
	return r != nil && r.Rest()
}

//go:noinline
func (c *conn) tunnelEnded(r hbone.Result) {
	c.ended(outcome.Tunnel(r, outcome.Client, outcome.Server))
}

//go:noinline
func (c *conn) plainEnded(r passthrough.Result) { c.ended(outcome.Plain(r)) }

// ended closes the record.
func (c *conn) ended(o telemetry.Outcome) {
	c.mu.Lock()
	if c.why != inpod.CauseNone {
		o.Err, o.Close = fmt.Errorf("closed by the ztunnel: %s", c.why), c.why.String()
	}
	o.Reason, o.Snapshot = c.reason.String(), c.version
	c.mu.Unlock()
	c.record.Close(o)
}

// View implements inpod.Connection.
func (c *conn) View() inpod.View {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := inpod.View{
		Client: c.client.String(), Meant: c.dest.String(), Protocol: "TCP", Plan: c.kind.String(),
		Reason: c.reason.String(), Snapshot: c.version,
	}
	if c.dial.IsValid() {
		v.Dial = c.dial.String()
	}
	switch c.kind {
	case route.HBONE, route.SameNode, route.Waypoint:
		v.Protocol = "HBONE"
	case route.Gateway:
		v.Protocol = "DOUBLEHBONE"
	}
	return v
}
