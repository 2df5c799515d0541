// Package hbone answers: how do bytes travel between two nodes of the mesh?
//
// It is an HTTP/2 CONNECT engine of our own over crypto/tls and the Framer and HPACK of golang.org/x/net/http2: client and
// server connections, their streams with flow control, a pool of client connections keyed by identity, and the relay
// between a stream and a TCP socket. It knows no policy, no routing and no certificates: the inbound and outbound
// shells decide, dial and pass in TLS configurations; they are its only callers.
//
//	         ClientConn.Connect                      handler goroutine
//	               │ HEADERS :method CONNECT               │
//	(none) ────────▼──── awaiting ── 200 ──▶ open ◀── Accept ── accepted
//	                        │                 │                    │ Refuse
//	    RST, GOAWAY, other status             │                    ▼
//	                        ▼      END_STREAM either way        closed
//	                     closed    half-closed, then closed;
//	                               RST_STREAM: closed at once
//
// Concurrency. Each connection has one reading goroutine (the caller of Run) that never waits for anything but the
// peer: what it has to send is queued, and bytes for a TCP socket that does not take them are queued per stream,
// within the stream's window. There is no writing goroutine on the fast path: whoever has data and finds nobody writing
// becomes the leader, writes one batch of everything queued, and passes the lead on. A small goroutine writes what the
// reader queued. Lock order: Stream.mu before conn.mu; no lock is held across I/O.
//
// Resets. A TCP reset travels as RST_STREAM(CONNECT_ERROR) (RFC 9113, 8.5) and becomes a TCP reset again on the other
// side. RST_STREAM with NO_ERROR or CANCEL, which Istio's ztunnels send when they drop a stream, reads as end of file.
//
// Room for later, not built: stream resumption (design, section 6) needs a stream id and an acknowledged offset of our own
// in CONNECT's header fields, for which head.Head is the place. Counters already count the offsets; what is missing is to keep
// sent bytes until the other side says that they reached its socket.
package hbone

import "github.com/ambit-mesh/ambit/ztunnel/hbone/head"

// The heads of CONNECT, re-exported so that callers need one import.
type (
	Head        = head.Head
	Response    = head.Response
	Baggage     = head.Baggage
	Forwarded   = head.Forwarded
	Traceparent = head.Traceparent
)

// Statuses that answer a CONNECT (ztunnel behaviour; RFC 9110 meanings).
const (
	StatusOK          = 200 // the connection to the application is open
	StatusBadRequest  = 400 // not a CONNECT, or a target that is not for us
	StatusDenied      = 401 // policy denied; Istio's ztunnel uses 401, not 403
	StatusUnavailable = 503 // no such service, or connecting to the application did not work
)
