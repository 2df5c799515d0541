// Package load makes the traffic that the benchmarks measure: a server with a port for each kind of traffic, and clients for
// throughput, request/response, a fixed request rate, new connections and idle connections. It knows nothing of meshes: the
// same generators run against no mesh, the floor and Ambit. Client and server are processes of their own in pods.
package load

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"time"
)

// Ports of the server, one for each kind of traffic.
const (
	SinkPort   = 7001 // reads to the end, then answers with the number of bytes as a big-endian uint64
	SourcePort = 7002 // reads a big-endian uint64 n, then sends n bytes and closes
	EchoPort   = 7003 // sends every message of MessageSize bytes back
)

// MessageSize is the size of a request and of its answer, in bytes.
const MessageSize = 128

// Result is what one run of one client saw.
type Result struct {
	Bytes   int64         `json:"bytes,omitempty"`
	Ops     int64         `json:"ops,omitempty"` // requests answered, or connections made and used
	Failed  int64         `json:"failed,omitempty"`
	Elapsed time.Duration `json:"elapsed_ns"`
	CPU     float64       `json:"cpu_seconds,omitempty"` // processor seconds of the whole machine meanwhile
	P50     time.Duration `json:"p50_ns,omitempty"`
	P90     time.Duration `json:"p90_ns,omitempty"`
	P99     time.Duration `json:"p99_ns,omitempty"`
}

// percentiles fills in the latency figures. It sorts its argument.
func (r *Result) percentiles(latencies []time.Duration) {
	if len(latencies) == 0 {
		return
	}
	slices.Sort(latencies)
	at := func(p float64) time.Duration { return latencies[int(p*float64(len(latencies)-1))] }
	r.P50, r.P90, r.P99 = at(0.50), at(0.90), at(0.99)
}

func dial(addr string) (*net.TCPConn, error) {
	c, err := net.DialTimeout("tcp", addr, 20*time.Second)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// exchange sends one message and reads its answer.
func exchange(c net.Conn, buf []byte) error {
	if _, err := c.Write(buf); err != nil {
		return err
	}
	_, err := io.ReadFull(c, buf)
	return err
}

func readCount(c io.Reader) (int64, error) {
	var b [8]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return 0, fmt.Errorf("count: %w", err)
	}
	return int64(binary.BigEndian.Uint64(b[:])), nil
}

func writeCount(c io.Writer, n int64) error {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	_, err := c.Write(b[:])
	return err
}
