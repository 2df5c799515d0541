// Package outbound is the shell around a connection that leaves a pod of this node: accepted on 15001, it is routed
// (route decides), opened (through a tunnel, or as it is), relayed and recorded. It decides nothing itself but when to
// stop waiting. inpod calls it, in a goroutine of each connection; only the tunnel pools, one a pod, are shared.
//
// What happens to a connection, in order, is Serve.
package outbound

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
	"github.com/ambit-mesh/ambit/ztunnel/cert"
	"github.com/ambit-mesh/ambit/ztunnel/hbone"
	"github.com/ambit-mesh/ambit/ztunnel/inpod"
	"github.com/ambit-mesh/ambit/ztunnel/route"
	"github.com/ambit-mesh/ambit/ztunnel/shift"
	"github.com/ambit-mesh/ambit/ztunnel/sockets"
	"github.com/ambit-mesh/ambit/ztunnel/state"
	"github.com/ambit-mesh/ambit/ztunnel/telemetry"
)

// Certificates gives the certificate of an identity; *cert.Store does.
type Certificates interface {
	Get(ctx context.Context, id spiffe.ID) (*cert.Certificate, error)
}

// Resolver finds the addresses of a host name; *net.Resolver does.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Config is what outbound connections need.
type Config struct {
	Store     *state.Store
	Dialer    sockets.Dialer
	Certs     Certificates
	Telemetry *telemetry.Telemetry
	Log       *slog.Logger
	Metrics   prometheus.Registerer
	Pool      hbone.PoolConfig
	// Handshakes bounds TLS handshakes in time and number.
	Handshakes *hbone.Handshaker
	// Resolver serves workloads that have a host name and no address. Nil: they cannot be reached.
	Resolver Resolver
	// Ask is told of an address that may belong to the mesh and is not known. It must not block. May be nil.
	Ask func(netip.Addr)
	// HoldLimit is how long a connection waits for the first synchronisation or for its own pod's record (5 s), AskLimit
	// for an address in the mesh's ranges that is not known (1 s).
	HoldLimit, AskLimit time.Duration
	// Pick chooses a number below n; nil means at random.
	Pick route.Pick
}

// Outbound serves connections that leave pods.
type Outbound struct {
	cfg     Config
	metrics *metrics

	mu    sync.Mutex
	pools map[*inpod.Pod]*hbone.Pool
}

// New makes an Outbound.
func New(cfg Config) *Outbound {
	if cfg.HoldLimit == 0 {
		cfg.HoldLimit = 5 * time.Second
	}
	if cfg.AskLimit == 0 {
		cfg.AskLimit = time.Second
	}
	if cfg.Pick == nil {
		cfg.Pick = rand.IntN
	}
	return &Outbound{cfg: cfg, metrics: newMetrics(cfg.Metrics), pools: map[*inpod.Pod]*hbone.Pool{}}
}

// Why a connection ends before it is known where to.
const rejectNoDestination = "NoOriginalDestination"

var errNoDestination = errors.New("no original destination: the connection was made to the ztunnel's own port")

// Serve takes one connection from its acceptance to its record. What is left when it returns is the connection's job.
func (o *Outbound) Serve(ctx context.Context, p *inpod.Pod, a sockets.Accepted) shift.Job {
	c := &conn{pod: p, app: a.Conn, client: a.Client, dest: a.Dest, start: time.Now()}
	p.Track(c) // from here on it can be cut
	if a.Dest.Port() == a.Port && p.Has(a.Dest.Addr()) {
		o.reject(c, rejectNoDestination, errNoDestination)
	} else if o.establish(ctx, c) {
		return c
	}
	c.End()
	return nil
}

// establish routes and opens the connection. A connection that cannot be is reset before a byte was taken from it, and
// recorded.
func (o *Outbound) establish(ctx context.Context, c *conn) (going bool) {
	defer c.pod.Guard("outbound")
	plan, err := o.route(ctx, c) // held while it cannot be told
	if err == nil {
		plan, err = o.open(ctx, c, plan) // by a second endpoint if the first does not answer
	}
	o.record(c, &plan)
	if err == nil {
		err = c.established()
	}
	if err != nil {
		o.fail(c, &plan, err)
		return false
	}
	return true
}
