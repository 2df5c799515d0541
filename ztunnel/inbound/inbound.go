// Package inbound is the shell around connections that arrive at a pod of this node: through a tunnel (15008, the peer's
// certificate says who it is) or in plain text (15006, nobody knows). Each is placed within the pod (route), judged
// (policy), connected to the application, which sees the client's own address, relayed and recorded. It decides nothing
// itself but when to stop waiting. inpod calls it, in a goroutine of each TCP connection; hbone in one of each stream.
//
// What happens to a connection, in order, is ServePlaintext and tunnel.serve.
package inbound

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
	"github.com/ambit-mesh/ambit/ztunnel/cert"
	"github.com/ambit-mesh/ambit/ztunnel/hbone"
	"github.com/ambit-mesh/ambit/ztunnel/inpod"
	"github.com/ambit-mesh/ambit/ztunnel/passthrough"
	"github.com/ambit-mesh/ambit/ztunnel/policy"
	"github.com/ambit-mesh/ambit/ztunnel/shift"
	"github.com/ambit-mesh/ambit/ztunnel/sockets"
	"github.com/ambit-mesh/ambit/ztunnel/state"
	"github.com/ambit-mesh/ambit/ztunnel/telemetry"
)

// Certificates gives the certificate of an identity; *cert.Store does.
type Certificates interface {
	Get(ctx context.Context, id spiffe.ID) (*cert.Certificate, error)
}

// Config is what inbound connections need.
type Config struct {
	Store      *state.Store
	Dialer     sockets.Dialer
	Certs      Certificates
	Telemetry  *telemetry.Telemetry
	Log        *slog.Logger
	HBONE      hbone.Config
	Handshakes *hbone.Handshaker
	// HoldLimit is how long a connection waits for what is missing: the pod's own record, a policy, a certificate (5 s).
	HoldLimit time.Duration
}

// Inbound serves connections that arrive at pods.
type Inbound struct{ cfg Config }

// New makes an Inbound.
func New(cfg Config) *Inbound {
	if cfg.HoldLimit == 0 {
		cfg.HoldLimit = 5 * time.Second
	}
	return &Inbound{cfg: cfg}
}

// Why a connection ends before it is known what it is.
const (
	rejectIllegalPort = "IllegalPort"
	rejectWorkload    = "WorkloadUnknown"
	rejectCertificate = "NoCertificate"
	rejectHandshake   = "TLSHandshake"
	rejectLimit       = "TooManyConnections"
	rejectProtocol    = "TunnelProtocol"
)

// meshPort tells whether nothing but the mesh itself may listen on a port.
func meshPort(port uint16) bool {
	return port == 15001 || port == 15006 || port == 15008 || port == 15053
}

// ServePlaintext takes a connection without identity from its acceptance to its record.
func (in *Inbound) ServePlaintext(ctx context.Context, p *inpod.Pod, a sockets.Accepted) shift.Job {
	c := &conn{pod: p, arrival: &arrival{client: a.Client, dialled: a.Dest}, down: a.Conn, start: time.Now()}
	if meshPort(a.Dest.Port()) || a.Dest.Port() == a.Port {
		in.reject(c, rejectIllegalPort, fmt.Errorf("port %d is the mesh's own", a.Dest.Port()))
		return nil
	}
	if !in.establish(ctx, c) {
		c.End()
		return nil
	}
	return c
}

// establish judges and opens a connection without identity; true says that it is to be relayed. Otherwise it is reset and
// recorded.
func (in *Inbound) establish(ctx context.Context, c *conn) (going bool) {
	defer c.pod.Guard("plaintext")
	snap, w := in.workload(ctx, c.pod)
	if w == nil {
		in.reject(c, rejectWorkload, errUnknownPod)
		return false
	}
	c.workload, c.target = w.UID, c.dialled
	c.pod.Track(c) // before the judgement, so that no change of policy falls in between

	d := in.authorize(ctx, c) // answers that are only missing are waited for
	in.recordPlaintext(c, snap, w, d)
	in.rehearsed(c, d)
	if !d.Allowed() {
		c.deny(d)
		return false
	}
	up, err := in.cfg.Dialer.DialTCP(ctx, c.pod.UID, c.dialled, c.client)
	if err == nil {
		err = c.established(up)
	}
	if err != nil {
		passthrough.Reset(c.down)
		c.fail(err)
		return false
	}
	return true
}

var errUnknownPod = errors.New("the pod is not known to the control plane")

// workload is the pod's own record, waited for.
func (in *Inbound) workload(ctx context.Context, p *inpod.Pod) (*state.Snapshot, *state.Workload) {
	snap := in.cfg.Store.Load()
	if w := p.Workload(snap); w != nil {
		return snap, w
	}
	ctx, cancel := context.WithTimeout(ctx, in.cfg.HoldLimit)
	defer cancel()
	w, snap, err := in.cfg.Store.WaitLocal(ctx, p.Key)
	if err != nil {
		return snap, nil
	}
	return snap, w
}

// authorize judges a connection. While the answer is only missing it is held: until the next snapshot, and no longer than
// HoldLimit; then it is denied.
func (in *Inbound) authorize(ctx context.Context, c *conn) policy.Decision {
	snap := in.cfg.Store.Load()
	d := policy.Authorize(snap, c.Judged())
	if d.Allowed() || !d.Reason.Pending() {
		return d
	}
	timer := time.NewTimer(in.cfg.HoldLimit)
	defer timer.Stop()
	for {
		select {
		case <-snap.Replaced():
		case <-c.gone():
			return d
		case <-timer.C:
			return d
		case <-ctx.Done():
			return d
		}
		snap = in.cfg.Store.Load()
		if d = policy.Authorize(snap, c.Judged()); d.Allowed() || !d.Reason.Pending() {
			return d
		}
	}
}

// rehearsed reports what dry-run policies would have done.
func (in *Inbound) rehearsed(c *conn, d policy.Decision) {
	for _, f := range d.DryRun {
		in.cfg.Log.Info("dry-run policy", "pod", c.pod.Pod, "src", c.client.String(), "peer", c.peer.String(),
			"dst", c.target.String(), "policy", f.Policy.String(), "verdict", f.Verdict.String(), "enforced", d.Verdict.String())
	}
}

// streamContext ends with a stream. It spares idle connections a context of their own.
type streamContext struct {
	context.Context // for its values
	done            <-chan struct{}
}

func (c streamContext) Done() <-chan struct{} { return c.done }

func (c streamContext) Err() error {
	select {
	case <-c.done:
		return context.Canceled
	default:
		return nil
	}
}

// dial connects to the application, which sees the client's address, unless it is asked for by loopback. The address is that
// of the tunnel's TCP peer, which cannot be claimed; the port is the one that the client's ztunnel names, so that the two
// applications' logs agree and its connections can be told apart.
func (in *Inbound) dial(ctx context.Context, c *conn, to, claimed netip.AddrPort) (*net.TCPConn, error) {
	present := c.client
	if claimed.Addr() == present.Addr() && claimed.Port() != 0 {
		present = claimed
	}
	if to.Addr().IsLoopback() && !c.dialled.Addr().IsLoopback() {
		present = netip.AddrPort{}
	}
	ctx = streamContext{context.WithoutCancel(ctx), c.gone()}
	return in.cfg.Dialer.DialTCP(ctx, c.pod.UID, to, present)
}
