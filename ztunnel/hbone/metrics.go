package hbone

import "sync/atomic"

// Metrics counts what connections and pools do. Its fields may be read at any time; whoever exports them reads them
// at scrape time. One value may serve many connections and pools. The zero value is ready.
type Metrics struct {
	ConnsOpen, ConnsOpened                        atomic.Int64 // HTTP/2 connections, both roles
	StreamsOpen, StreamsOpened                    atomic.Int64 // CONNECT streams, both roles
	StreamsRefused                                atomic.Int64 // server: over the stream limit or after the final GOAWAY
	StreamsRejected                               atomic.Int64 // server: malformed CONNECT
	ResetsSent, ResetsReceived                    atomic.Int64 // RST_STREAM frames
	PingTimeouts, SettingsTimeouts, StalledWrites atomic.Int64 // connections ended because the peer went silent
	Floods                                        atomic.Int64 // connections ended by a flood guard
	ProtocolErrors                                atomic.Int64 // connections ended for breaking HTTP/2
	SlowReads                                     atomic.Int64 // times a stream's TCP side fell behind and bytes were queued
	QueuedBytes                                   atomic.Int64 // bytes in those queues now
	HandshakesPending                             atomic.Int64 // TLS handshakes in progress
	HandshakesFailed, HandshakesRefused           atomic.Int64 // failed or timed out; over the limit
	PoolDials, PoolDialErrors                     atomic.Int64 // connections attempted by pools
	PoolHits, PoolWaits                           atomic.Int64 // CONNECTs served by an open connection; that waited for a dial
	PoolLimited                                   atomic.Int64 // CONNECTs refused by MaxConns or MaxConnsPerKey
	PoolResent                                    atomic.Int64 // CONNECTs sent again after GOAWAY or REFUSED_STREAM
	PoolEvicted                                   atomic.Int64 // connections retired: idle, too old, identity rotated
}
