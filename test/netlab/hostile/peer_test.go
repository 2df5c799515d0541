package hostile

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/ambit-mesh/ambit/test/netlab"
)

// peer is an HBONE client that can be made to misbehave. Its certificate is genuine.
type peer struct {
	*http2.Framer
	tls   *tls.Conn
	block bytes.Buffer
	hpack *hpack.Encoder
	next  uint32
}

// newPeer does the handshake with a pod's 15008.
func newPeer(t *testing.T, from, to netlab.Pod, crt tls.Certificate) *peer {
	t.Helper()
	conn, err := dial(t.Context(), from, at(to, 15008), 5*time.Second)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	cfg := with(crt)
	cfg.InsecureSkipVerify, cfg.NextProtos = true, []string{"h2"} //nolint:gosec // the attacker does not care who it attacks
	p := &peer{tls: tls.Client(conn, cfg), next: 1}
	must(t, p.tls.SetDeadline(time.Now().Add(15*time.Second)))
	must(t, p.tls.HandshakeContext(t.Context()))
	p.Framer = http2.NewFramer(p.tls, p.tls)
	p.AllowIllegalWrites = true
	p.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	p.hpack = hpack.NewEncoder(&p.block)
	return p
}

// begin sends preface and settings.
func (p *peer) begin(t *testing.T) *peer {
	t.Helper()
	_, err := io.WriteString(p.tls, http2.ClientPreface)
	must(t, err)
	must(t, p.WriteSettings())
	return p
}

// fields encodes a header list given as name, value, name, value.
func (p *peer) fields(pairs ...string) []byte {
	p.block.Reset()
	for i := 0; i+1 < len(pairs); i += 2 {
		_ = p.hpack.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]}) // into a buffer
	}
	return p.block.Bytes()
}

// open sends a request and returns its stream; a long header list goes on in CONTINUATION frames.
func (p *peer) open(pairs ...string) (id uint32, err error) {
	id, p.next = p.next, p.next+2
	if err := p.patient(); err != nil {
		return 0, err
	}
	block := p.fields(pairs...)
	n := min(len(block), 16<<10)
	err = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block[:n], EndHeaders: n == len(block)})
	for block = block[n:]; err == nil && len(block) > 0; block = block[n:] {
		n = min(len(block), 16<<10)
		err = p.WriteContinuation(id, n == len(block), block[:n])
	}
	return id, err
}

// connect sends a CONNECT with further fields and returns how it was answered.
func (p *peer) connect(authority string, pairs ...string) string {
	id, err := p.open(append([]string{":method", "CONNECT", ":authority", authority}, pairs...)...)
	if err != nil {
		return p.end(err)
	}
	return p.outcome(id)
}

// outcome is how a stream is answered ("status 200", "reset PROTOCOL_ERROR"), or how the connection ends before that.
// Stream 0 waits for the connection's end.
func (p *peer) outcome(id uint32) string {
	if err := p.patient(); err != nil {
		return p.end(err)
	}
	for {
		f, err := p.ReadFrame()
		if err != nil {
			return p.end(err)
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if f.StreamID == id {
				return "status " + f.PseudoValue("status")
			}
		case *http2.RSTStreamFrame:
			if f.StreamID == id {
				return "reset " + f.ErrCode.String()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				if err := p.WritePing(true, f.Data); err != nil {
					return p.end(err)
				}
			}
		case *http2.GoAwayFrame:
			if f.ErrCode != http2.ErrCodeNo {
				return "goaway " + f.ErrCode.String()
			}
		}
	}
}

func (p *peer) end(err error) string {
	var slow net.Error
	if asTimeout(err, &slow) {
		return "nothing"
	}
	if errors.Is(err, io.EOF) {
		return "closed"
	}
	return fmt.Sprint("broken: ", err)
}

// patient gives what comes next ten seconds.
func (p *peer) patient() error { return p.tls.SetDeadline(time.Now().Add(10 * time.Second)) }
