// Package result is what the lab's test programs print: one JSON value on standard output, which demo checks and benchmarks
// read back. It decides nothing.
package result

import "time"

// Peer is what one connection showed to the program that made it.
type Peer struct {
	// Local and Remote are getsockname and getpeername as the application sees them, ip:port.
	Local  string `json:"local"`
	Remote string `json:"remote"`
	// Answer is what the other side sent: an echo server tells the addresses that it saw.
	Answer string `json:"answer,omitempty"`
}

// Batch sums up many connections.
type Batch struct {
	OK     int            `json:"ok"`
	Failed int            `json:"failed"`
	Errors map[string]int `json:"errors,omitempty"` // by error text without addresses
	By     map[string]int `json:"by,omitempty"`     // successes by who answered
	// Peak is the highest number of connections that were open at once.
	Peak    int           `json:"peak,omitempty"`
	Seconds float64       `json:"seconds"`
	P50     time.Duration `json:"p50,omitempty"`
	Max     time.Duration `json:"max,omitempty"` // the slowest connection, connect to last answer
}

// Bulk is one large transfer.
type Bulk struct {
	Bytes   int64   `json:"bytes"`
	SHA256  string  `json:"sha256"` // of what this program sent or received
	Remote  string  `json:"remote"` // the same as told by the other side
	Match   bool    `json:"match"`
	Seconds float64 `json:"seconds"`
}

// Stream is the life of one long connection over which small messages went back and forth.
type Stream struct {
	Peer
	Exchanges int       `json:"exchanges"`
	Start     time.Time `json:"start"`
	End       time.Time `json:"end"`
	// Closed is set when the connection ended before the program wanted to; Error says how.
	Closed bool          `json:"closed"`
	Error  string        `json:"error,omitempty"`
	MaxGap time.Duration `json:"maxGap"` // the slowest exchange
}

// HalfClose is one exchange in which one direction ended before the other.
type HalfClose struct {
	Sent     int64  `json:"sent"`
	Received int64  `json:"received"`
	SHA256   string `json:"sha256"` // of what was sent
	Remote   string `json:"remote"` // of what the other side says it received
	Match    bool   `json:"match"`
}

// DNS is one answer.
type DNS struct {
	Server  string   `json:"server"`
	From    string   `json:"from"` // the address the answer appeared to come from
	Rcode   string   `json:"rcode"`
	Answers []string `json:"answers"`
}
