package hbone

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/ambit-mesh/ambit/ztunnel/hbone/flow"
	"github.com/ambit-mesh/ambit/ztunnel/hbone/head"
)

const (
	frameHeader      = 9
	maxFrame         = 1 << 20  // what we announce: DATA frames are consumed as they arrive, so large ones cost nothing
	maxControlFrame  = 80 << 10 // the largest frame of another kind that we buffer
	maxControlQueue  = 64 << 10 // bytes of unsent control frames after which the peer is flooding or dead
	defaultFrameSize = 16 << 10
	defaultWindow    = 65535
)

// conn is what client and server connections have in common.
type conn struct {
	cfg    Config
	client bool
	nc     net.Conn
	in     reader
	fr     *http2.Framer // reads from in; writes to ctl, under mu
	kick   chan struct{} // tells the flusher that the reader queued control frames
	handle Handler       // server
	goaway chan struct{} // client: closed when the server said GOAWAY

	// Owned by the reading goroutine.
	gather     gather
	recv       flow.Receive // connection level
	guard      guard
	maxPeerID  uint32 // highest stream the peer opened (server)
	gotSetting bool

	lastRead atomic.Int64 // unix nanoseconds of the last plaintext
	growth   atomic.Int64 // what is left of Config.GrowthBudget

	mu       sync.Mutex
	ctl      frames        // encoded frames that leave before any DATA queued later
	spare    []byte        // the other ctl buffer
	writing  bool          // somebody is the leader
	batched  chan struct{} // closed when a batch was written, if somebody waits for that
	queue    []*Stream
	starved  []*Stream // wait for the connection's send window
	send     flow.Send
	peerInit int64 // SETTINGS_INITIAL_WINDOW_SIZE of the peer
	peerMax  int   // SETTINGS_MAX_FRAME_SIZE of the peer
	slots    int   // client: streams the peer allows, at most MaxStreams
	henc     *hpack.Encoder
	hbuf     bytes.Buffer
	fields   []hpack.HeaderField
	streams  map[uint32]*Stream
	nextID   uint32
	reserved int // client: slots promised to callers that have not opened their stream yet
	handlers int // server: handler goroutines that have not returned
	err      error
	closed   chan struct{} // closed with err set
	failed   chan struct{} // closed when all streams have learned of it
	settled  bool          // the peer's first SETTINGS arrived
	drain    drainState
	ending   bool // closeGracefully has begun
	timer    *time.Timer
	timers   sync.WaitGroup // scheduled timer callbacks
	writeAt  time.Time      // when the batch being written was begun
	wroteAt  time.Time      // when the last batch began
	pingSent time.Time      // zero: no ping outstanding
	start    time.Time
	drainAt  time.Time // when the drain's ping was sent
	onChange func()    // client: told without locks when slots, load or usability changed

	work sync.WaitGroup // flusher and handlers
}

type drainState uint8

const (
	drainNone     drainState = iota
	drainAnnounce            // server: GOAWAY(2^31-1) and PING sent; racing CONNECTs are still served
	drainFinal               // no new streams; ends with the last one
)

// frames collects encoded frames; it is the Framer's writer.
type frames []byte

// Write implements io.Writer.
func (f *frames) Write(p []byte) (int, error) {
	*f = append(*f, p...)
	return len(p), nil
}

func newConn(nc net.Conn, cfg Config, client bool) *conn {
	c := &conn{
		cfg: cfg, client: client, nc: nc,
		kick:     make(chan struct{}, 1),
		closed:   make(chan struct{}),
		failed:   make(chan struct{}),
		goaway:   make(chan struct{}),
		streams:  make(map[uint32]*Stream),
		send:     flow.NewSend(defaultWindow),
		peerInit: defaultWindow,
		peerMax:  defaultFrameSize,
		recv:     flow.NewReceive(int64(cfg.ConnWindow), int64(cfg.ConnWindow)),
		nextID:   1,
		slots:    cfg.MaxStreams,
	}
	c.growth.Store(int64(cfg.GrowthBudget))
	c.henc = hpack.NewEncoder(&c.hbuf)
	c.in.init(c)
	c.fr = http2.NewFramer(&c.ctl, &c.in)
	c.fr.SetReuseFrames()
	c.fr.SetMaxReadFrameSize(maxFrame)
	c.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.fr.MaxHeaderListSize = head.MaxClientList
	if !client {
		c.fr.MaxHeaderListSize = head.MaxServerList
	}
	c.guard.init()
	c.announce()
	return c
}

// announce queues our preface and SETTINGS, before anything else can be queued.
func (c *conn) announce() {
	settings := []http2.Setting{
		{ID: http2.SettingInitialWindowSize, Val: uint32(c.cfg.StreamWindow)},
		{ID: http2.SettingMaxFrameSize, Val: maxFrame},
		{ID: http2.SettingMaxHeaderListSize, Val: c.fr.MaxHeaderListSize},
	}
	if c.client {
		c.ctl = append(c.ctl, http2.ClientPreface...)
		settings = append(settings, http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	} else {
		settings = append(settings, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(c.cfg.MaxStreams)})
	}
	c.queued(c.fr.WriteSettings(settings...))
	if more := c.cfg.ConnWindow - defaultWindow; more > 0 {
		c.queued(c.fr.WriteWindowUpdate(0, uint32(more)))
	}
}

// queued takes the result of a Framer write into ctl, which fails only for arguments we got wrong.
func (c *conn) queued(err error) {
	if err != nil {
		panic("hbone: illegal frame: " + err.Error())
	}
}

// run serves the connection until it ends; see ClientConn.Run and ServerConn.Run.
func (c *conn) run(ctx context.Context, preface func() error) error {
	m := c.cfg.Metrics
	m.ConnsOpened.Add(1)
	m.ConnsOpen.Add(1)
	defer m.ConnsOpen.Add(-1)
	stop := context.AfterFunc(ctx, func() { c.fail(context.Cause(ctx)) })
	c.begin()
	c.work.Go(c.flusher)
	c.wake()
	err := preface()
	if err == nil {
		err = c.read()
	}
	c.gather.drop()
	c.goodbye(err)
	c.fail(err)
	<-c.failed
	stop()
	c.stopTimer()
	c.in.release()
	c.work.Wait()
	if err := c.cause(); !errors.Is(err, ErrClosed) {
		return err
	}
	return nil
}

// goodbye tells the peer why the connection ends, if that is the peer's doing. Best effort, within a second.
func (c *conn) goodbye(err error) {
	var f *connFailure
	var ce http2.ConnectionError
	switch {
	case errors.As(err, &f):
	case errors.As(err, &ce):
		f = &connFailure{code: http2.ErrCode(ce), reason: "framing"}
	case errors.Is(err, http2.ErrFrameTooLarge):
		f = &connFailure{code: http2.ErrCodeFrameSize, reason: "frame too large"}
	default:
		return
	}
	if f.code == http2.ErrCodeEnhanceYourCalm {
		c.cfg.Metrics.Floods.Add(1)
	} else {
		c.cfg.Metrics.ProtocolErrors.Add(1)
	}
	c.cfg.Log.Debug("tunnel ended by protocol violation", "err", err)
	c.nc.SetWriteDeadline(time.Now().Add(lastWords))
	c.mu.Lock()
	if c.err == nil {
		c.queued(c.fr.WriteGoAway(c.maxPeerID, f.code, nil))
	}
	c.mu.Unlock()
	c.flushAll()
}

// fail ends the connection: every stream ends with it. Only the first call counts.
func (c *conn) fail(err error) {
	if err == nil {
		err = ErrConnLost
	}
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	close(c.closed)
	victims := make([]*Stream, 0, len(c.streams))
	for _, s := range c.streams {
		victims = append(victims, s)
	}
	clear(c.streams)
	c.cfg.Metrics.StreamsOpen.Add(-int64(len(victims)))
	for _, s := range victims {
		c.endLocked(s, ErrConnLost)
	}
	c.starved = nil
	c.mu.Unlock()
	if errors.Is(err, ErrTimeout) {
		c.discard()
	}
	c.hangUp()
	for _, s := range victims {
		s.abort(ErrConnLost)
	}
	c.changed()
	close(c.failed)
}

// discard makes hangUp a reset: a peer that does not read would otherwise leave what was sent to it, and a FIN behind that, in
// the kernel's memory for minutes, where no limit of ours counts it.
func (c *conn) discard() {
	nc := c.nc
	if t, ok := nc.(*TLSConn); ok {
		nc = t.records.Conn
	}
	if tcp, ok := nc.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // one that is closed already needs none
	}
}

// hangUp closes the transport without waiting for a peer that does not read: a writer may be blocked in it.
func (c *conn) hangUp() {
	if t, ok := c.nc.(*TLSConn); ok {
		t.hangUp()
		return
	}
	c.nc.Close()
}

// lastWords is how long a connection that ends tries to tell its peer.
const lastWords = time.Second

// cause returns why the connection ended, nil while it lives.
func (c *conn) cause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// changed tells the pool.
func (c *conn) changed() {
	if c.onChange != nil {
		c.onChange()
	}
}

// forgetLocked removes a stream that has ended in both directions; the caller holds mu and calls changed afterwards.
func (c *conn) forgetLocked(s *Stream) {
	if _, ok := c.streams[s.id]; !ok {
		return
	}
	delete(c.streams, s.id)
	c.cfg.Metrics.StreamsOpen.Add(-1)
	c.finishDrainLocked()
}

// finishDrainLocked ends a draining connection that has no streams left.
func (c *conn) finishDrainLocked() {
	if c.drain == drainFinal && len(c.streams) == 0 && c.reserved == 0 && c.err == nil && !c.ending {
		c.ending = true
		c.work.Go(c.closeGracefully) // the flusher still runs, so work's count is not zero
	}
}

// lingerTimeout is how long a connection that said its last word waits for the peer's. Closing at once would, with
// unread input, make the kernel send a reset that may overtake our last data.
const lingerTimeout = 2 * time.Second

// closeGracefully sends what is queued and a last GOAWAY, ends our direction, and leaves the rest to the reader.
func (c *conn) closeGracefully() {
	c.nc.SetWriteDeadline(time.Now().Add(lastWords))
	c.mu.Lock()
	if c.err == nil && c.client {
		c.queued(c.fr.WriteGoAway(0, http2.ErrCodeNo, nil))
	}
	c.mu.Unlock()
	c.flushAll()
	if t, ok := c.nc.(interface{ CloseWrite() error }); ok && t.CloseWrite() == nil {
		timer := time.NewTimer(lingerTimeout)
		defer timer.Stop()
		select {
		case <-c.closed:
		case <-timer.C:
		}
	}
	c.fail(ErrClosed)
}
