package hbone

import (
	"log/slog"
	"runtime"
	"time"
)

// Config says how a connection behaves. The zero value is right for production: every zero field means its default.
// It is copied; later changes have no effect.
type Config struct {
	// StreamWindow is the receive window each stream starts with, in bytes (default 256 KiB). It is also the most that
	// a reader which never keeps up can pin.
	StreamWindow int
	// StreamWindowMax is how far a window grows while its reader keeps up (default 4 MiB).
	StreamWindowMax int
	// ConnWindow is the connection's receive window (default 16 MiB). Its credit returns on receipt, so streams that stall
	// do not stall others; memory is bounded by the streams' windows.
	ConnWindow int
	// GrowthBudget bounds the sum by which windows of one connection exceed StreamWindow (default 16 MiB).
	GrowthBudget int
	// MaxStreams is, on a server, the number of streams a peer may have open, announced and enforced (default 200); on
	// a client, the most it opens on a connection even if the server allows more (default 100).
	MaxStreams int
	// SettingsTimeout bounds preface and first SETTINGS (default 10 s).
	SettingsTimeout time.Duration
	// ConnectTimeout bounds the wait for the response to a CONNECT (default 30 s: the server may itself wait 5 s for
	// configuration and 10 s for its own connect).
	ConnectTimeout time.Duration
	// PingInterval is how long a connection may be silent before it is pinged (default 10 s), PingTimeout how long it may
	// stay silent after that (default 20 s). A connection on which data arrives is not pinged.
	PingInterval, PingTimeout time.Duration
	// DrainWait is how long a CONNECT without a response waits after the server said GOAWAY before it is given up as safe
	// to send again on another connection (default 250 ms).
	DrainWait time.Duration
	// Metrics receives counts; nil discards them.
	Metrics *Metrics
	// Log receives what a person may want to know of a connection that failed; nil discards it.
	Log *slog.Logger
}

func (c Config) withDefaults(client bool) Config {
	def(&c.StreamWindow, 256<<10)
	def(&c.StreamWindowMax, 4<<20)
	def(&c.ConnWindow, 16<<20)
	def(&c.GrowthBudget, 16<<20)
	if client {
		def(&c.MaxStreams, 100)
	} else {
		def(&c.MaxStreams, 200)
	}
	def(&c.SettingsTimeout, 10*time.Second)
	def(&c.ConnectTimeout, 30*time.Second)
	def(&c.PingInterval, 10*time.Second)
	def(&c.PingTimeout, 20*time.Second)
	def(&c.DrainWait, 250*time.Millisecond)
	if c.Metrics == nil {
		c.Metrics = new(Metrics)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// PoolConfig says how a [Pool] behaves; every zero field means its default.
type PoolConfig struct {
	// Conn configures each connection the pool makes.
	Conn Config
	// DialTimeout bounds connecting, TLS included (default 20 s: 10 s for TCP, 10 s for the handshake).
	DialTimeout time.Duration
	// IdleTimeout is how long a connection without streams is kept (default 5 min).
	IdleTimeout time.Duration
	// MaxAge is how old a connection may get before it takes no new streams (default 24 h); evict by identity on
	// certificate rotation with [Pool.Evict].
	MaxAge time.Duration
	// MaxConnsPerKey bounds the connections to one destination for one identity (default 512, some 50,000 streams); beyond it Connect
	// fails with [ErrLimit].
	MaxConnsPerKey int
	// MaxConns bounds all connections of the pool (default 8192).
	MaxConns int
	// SpreadAt is the number of streams from which a busy connection gets a sibling, as long as there are fewer than
	// Spread of them: one connection is served by one reading goroutine at each end, so one core (default 4).
	SpreadAt int
	// Spread is how many connections to one destination bulk traffic is spread over (default: half the cores, 1 to 4).
	Spread int
}

func (c PoolConfig) withDefaults() PoolConfig {
	c.Conn = c.Conn.withDefaults(true)
	def(&c.DialTimeout, 20*time.Second)
	def(&c.IdleTimeout, 5*time.Minute)
	def(&c.MaxAge, 24*time.Hour)
	def(&c.MaxConnsPerKey, 512)
	def(&c.MaxConns, 8192)
	def(&c.SpreadAt, 4)
	def(&c.Spread, min(4, max(1, runtime.GOMAXPROCS(0)/2)))
	return c
}

// def sets *v to d if it is zero.
func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}
