package inbound

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
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
	pod *inpod.Pod
	*arrival
	start    time.Time
	down     *net.TCPConn   // either of these is the client's side
	stream   *hbone.Stream  //
	workload string         // UID of the destination; empty before it is known, and to be judged
	target   netip.AddrPort // what the application listens on
	bytes    hbone.Counters // of a tunnel's relay
	record   *telemetry.Conn

	mu       sync.Mutex
	up       *net.TCPConn
	relay    *hbone.Relay    // between up and stream, once they are there
	decision policy.Decision // that let it in, or that cut it
	why      inpod.Cause     // not none: it was cut
}

// arrival is how a TCP connection came to the pod. The connections within a tunnel share the tunnel's.
type arrival struct {
	client, dialled netip.AddrPort
	peer            spiffe.ID // that TLS proved; zero in plain text
}

// Judged implements inpod.Connection.
func (c *conn) Judged() policy.Conn {
	if c.workload == "" {
		return policy.Conn{}
	}
	return policy.Conn{Workload: c.workload, Peer: c.peer, Source: c.client, Destination: c.target}
}

// Bytes implements telemetry.Meter.
func (c *conn) Bytes() (request, response uint64) {
	return uint64(c.bytes.FromStream.Load()), uint64(c.bytes.ToStream.Load())
}

// Cut implements inpod.Connection.
func (c *conn) Cut(why inpod.Cause, d policy.Decision) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why != inpod.CauseNone {
		return
	}
	c.why = why
	if why == inpod.CausePolicy {
		c.decision = d
	}
	c.endLocked()
}

// endLocked resets whatever there is.
func (c *conn) endLocked() {
	if c.up != nil {
		passthrough.Reset(c.up)
	}
	if c.down != nil {
		passthrough.Reset(c.down)
	}
	if c.stream != nil {
		c.stream.Reset(http2.ErrCodeConnect)
	}
}

// gone is closed when the peer has given up or the connection was cut; never for plain text, whose socket says it.
func (c *conn) gone() <-chan struct{} {
	if c.stream == nil {
		return nil
	}
	return c.stream.Done()
}

// allowed notes why the connection exists.
func (c *conn) allowed(d policy.Decision) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why == inpod.CauseNone {
		c.decision = d
	}
}

// established gives the connection its other side; an error if it was cut meanwhile.
func (c *conn) established(up *net.TCPConn) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.up = up
	if c.why != inpod.CauseNone {
		c.endLocked()
		return outcome.Cut{Why: c.why}
	}
	if c.stream != nil {
		c.relay, err = hbone.NewRelay(up, c.stream, &c.bytes)
	}
	return err
}

// End implements shift.Job.
func (c *conn) End() {
	c.lost()
	c.pod.Untrack(c)
	if c.stream != nil { // a connection of its own has entered where it was accepted
		c.pod.Leave()
	}
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

// deniedError is what the log says of a denial.
type deniedError struct{ d policy.Decision }

func (e deniedError) Error() string {
	if e.d.Policy.Name == "" {
		return "denied: " + e.d.Reason.String()
	}
	return "denied: " + e.d.Reason.String() + " by policy " + e.d.Policy.String()
}

// denial is the outcome of a decision against the connection.
func denial(d policy.Decision, close string) telemetry.Outcome {
	return telemetry.Outcome{
		Flag: telemetry.FlagDeny, Err: deniedError{d}, Reason: d.Reason.String(), Policy: d.Policy, Snapshot: d.Version, Close: close,
	}
}

// deny ends a connection that policy does not allow: 401, or a reset where there is nobody to tell.
func (c *conn) deny(d policy.Decision) {
	if c.stream != nil {
		_ = c.stream.Refuse(hbone.StatusDenied)
	} else {
		passthrough.Reset(c.down)
	}
	o := denial(d, "denied")
	o.Unserved = true
	c.record.Close(o)
}

// refuse ends a connection for which there is no place in the pod.
func (c *conn) refuse(status int, why route.Reason) {
	_ = c.stream.Refuse(status)
	c.record.Close(telemetry.Outcome{
		Flag: telemetry.FlagConnect, Refused: true, Unserved: true, Reason: why.String(), Err: fmt.Errorf("answered %d: %s", status, why), Close: "refused",
	})
}

// fail records a connection that could not be opened.
func (c *conn) fail(err error) {
	c.mu.Lock()
	o := telemetry.Outcome{Flag: telemetry.FlagConnect, Err: err, Reason: c.decision.Reason.String(), Snapshot: c.decision.Version, Close: "not connected"}
	if c.why == inpod.CausePolicy {
		o = denial(c.decision, c.why.String())
	} else if c.why != inpod.CauseNone {
		o.Close = c.why.String()
	}
	o.Unserved = true
	c.mu.Unlock()
	c.record.Close(o)
}

// Shift implements shift.Job: it copies until both directions have ended, and records how, or until it shall rest. It keeps its
// frame small.
func (c *conn) Shift() (again bool) {
	defer c.pod.Guard("inbound") // after a panic it is over
	if c.relay == nil {
		c.plainEnded(passthrough.Relay(c.down, c.up, &c.record.RequestBytes, &c.record.ResponseBytes))
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
	c.ended(outcome.Tunnel(r, outcome.Server, outcome.Client))
}

//go:noinline
func (c *conn) plainEnded(r passthrough.Result) { c.ended(outcome.Plain(r)) }

// ended closes the record.
func (c *conn) ended(o telemetry.Outcome) {
	c.mu.Lock()
	switch {
	case c.why == inpod.CausePolicy:
		o = denial(c.decision, c.why.String())
	case c.why != inpod.CauseNone:
		o.Err, o.Close = fmt.Errorf("closed by the ztunnel: %s", c.why), c.why.String()
		fallthrough
	default:
		o.Reason, o.Policy, o.Snapshot = c.decision.Reason.String(), c.decision.Policy, c.decision.Version
	}
	c.mu.Unlock()
	c.record.Close(o)
}

// View implements inpod.Connection.
func (c *conn) View() inpod.View {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := inpod.View{
		Inbound: true, Client: c.client.String(), Dial: c.target.String(), Protocol: "TCP", Peer: c.peer.String(),
		Reason: c.decision.Reason.String(), Policy: c.decision.Policy.String(), Snapshot: c.decision.Version,
	}
	if c.stream != nil {
		v.Protocol = "HBONE"
	}
	return v
}
