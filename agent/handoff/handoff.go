// Package handoff serves agent/api: it gives the ztunnels of the node the pods and their sockets, and remembers what each
// has acknowledged. It holds a duplicate of every listener, so that connections wait in the kernel while no ztunnel runs. It
// decides neither which pods there are (the agent's reconcile loop says so with Set and Remove) nor how a socket is made.
//
// A connection of a ztunnel, as the agent sees it:
//
//	accepted -> hello -> returning -> waiting for a complete pass -> snapshot -> live -> draining -> closed
//	    |         |                     of the reconcile loop                      |
//	    +---------+-- refused (uid, cgroup, version, too many)          Ready: older ones are told to drain
//
// What a ztunnel is told is level-triggered: each connection compares what the server has with what it has sent, so nothing
// queues up behind a slow one. All methods may be called from any goroutine.
package handoff

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/ambit-mesh/ambit/agent/api"
	"github.com/ambit-mesh/ambit/agent/pods"
	"golang.org/x/sync/errgroup"
)

// Bounds.
const (
	maxConns     = 4    // ztunnels at once: an old one, a new one, and room for one that comes back
	maxReturned  = 8192 // pods whose listeners wait to be claimed
	maxInFlight  = 32   // messages of a connection that wait for their acknowledgement
	maxRequests  = 64   // socket requests of a connection that wait
	helloTimeout = 5 * time.Second
	tick         = time.Second
	retryRefused = 5 * time.Second // a pod that a ztunnel could not take is offered again
)

// Config is what a Server needs.
type Config struct {
	Path    string           // of the socket; its directory is made, 0700
	UID     int              // the ztunnel's; directory and socket become its own
	Node    string           // told to the ztunnels
	Allow   func(Peer) error // who may connect; the error is logged and told to the peer
	Make    Maker
	Absence time.Duration // without a ztunnel, before waiting connections are reset
	Drain   time.Duration // that an older ztunnel has to finish; 0: as long as it likes
	Reset   func(fd int, kind api.ListenerKind) int
	Log     *slog.Logger
	Metrics *Metrics
}

// Maker makes up to n sockets in a pod, tagged and owned by the caller. Fewer is an answer, none an error.
type Maker func(uid pods.UID, kind api.SocketKind, n int) (api.Fds, error)

// Server is the agent's end of all hand-off connections of a node.
type Server struct {
	cfg     Config
	lines   *lines
	changed chan struct{} // has one place: something happened that the reconcile loop wants to know

	mu       sync.Mutex // guards everything below, and the state of every conn
	pods     map[pods.UID]*served
	returned map[pods.UID]*Returned // held by ztunnels of an earlier agent, not yet claimed or discarded
	conns    map[*conn]bool
	gen      uint64 // of pods and connections: counts up from 2, so that 1 can mean "kept, not yet looked at"
	begun    uint64 // passes of the reconcile loop
	ended    uint64 // the newest pass that is complete
	absent   time.Time
	said     bool // that waiting connections are being reset
}

// served is a pod that the mesh serves.
type served struct {
	wire    *api.Pod
	kinds   []api.ListenerKind
	fds     api.Fds // ours; ztunnels get duplicates
	cookies []uint64
	gen     uint64
}

// New makes a Server; nothing is accepted before Run.
func New(cfg Config) *Server {
	return &Server{
		cfg: cfg, lines: newLines(cfg.Log, cfg.Metrics.suppressed), changed: make(chan struct{}, 1), absent: time.Now(), gen: 1,
		pods: map[pods.UID]*served{}, returned: map[pods.UID]*Returned{}, conns: map[*conn]bool{},
	}
}

// Changed tells that acknowledgements, connections or returned listeners changed since it was last received from.
func (s *Server) Changed() <-chan struct{} { return s.changed }

func (s *Server) notify() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Run listens until ctx ends. On return all connections are closed and so are all listeners: ztunnels keep theirs.
func (s *Server) Run(ctx context.Context) error {
	listener, err := s.listen()
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		<-ctx.Done()
		return listener.Close()
	})
	group.Go(func() error {
		s.watchAbsence(ctx)
		return nil
	})
	group.Go(func() error {
		s.lines.run(ctx)
		return nil
	})
	group.Go(func() error { return s.accept(ctx, listener, group) })
	err = group.Wait()
	s.closeAll()
	return err
}

// Listen makes the socket that ztunnels dial. The directory admits nobody but its owner and root.
func (s *Server) listen() (*net.UnixListener, error) {
	dir := filepath.Dir(s.cfg.Path)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil { // the ztunnel must get through
		return nil, fmt.Errorf("hand-off directory: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("hand-off directory: %w", err)
	}
	if err := errors.Join(os.Chmod(dir, 0o700), os.Chown(dir, s.cfg.UID, s.cfg.UID)); err != nil {
		return nil, fmt.Errorf("hand-off directory: %w", err)
	}
	if err := os.Remove(s.cfg.Path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("hand-off socket of an earlier agent: %w", err)
	}
	l, err := net.ListenUnix(api.Network, &net.UnixAddr{Name: s.cfg.Path, Net: api.Network})
	if err != nil {
		return nil, fmt.Errorf("hand-off socket: %w", err)
	}
	l.SetUnlinkOnClose(true)
	if err := errors.Join(os.Chmod(s.cfg.Path, 0o600), os.Chown(s.cfg.Path, s.cfg.UID, s.cfg.UID)); err != nil {
		return nil, errors.Join(fmt.Errorf("hand-off socket: %w", err), l.Close())
	}
	return l, nil
}

func (s *Server) accept(ctx context.Context, l *net.UnixListener, group *errgroup.Group) error {
	for {
		c, err := l.AcceptUnix()
		if ctx.Err() != nil {
			if err == nil {
				c.Close()
			}
			return nil
		}
		if err != nil {
			// Out of descriptors, for instance: others must go on, and the next try may work.
			s.cfg.Log.Error("hand-off connection not accepted; trying again", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(tick):
			}
			continue
		}
		group.Go(func() error {
			s.serve(ctx, c)
			return nil
		})
	}
}

func (s *Server) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for uid, p := range s.pods {
		p.fds.Close()
		delete(s.pods, uid)
	}
	for uid, r := range s.returned {
		r.Fds.Close()
		delete(s.returned, uid)
	}
}
