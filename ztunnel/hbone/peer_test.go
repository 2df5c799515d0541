package hbone

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// peer is a scripted other end: a Framer that may break every rule, over an in-memory connection.
type peer struct {
	t    *testing.T
	fr   *http2.Framer
	nc   net.Conn
	hbuf bytes.Buffer
	henc *hpack.Encoder

	mu     sync.Mutex
	frames []string // what arrived, shortened
	goaway http2.ErrCode
	gone   bool
	eof    chan struct{}
	acks   bool // answer SETTINGS and PING
}

// newPeer starts collecting what the tested side sends; it acknowledges what must be unless mute.
func newPeer(t *testing.T, nc net.Conn, fromClient, mute bool) *peer {
	p := &peer{t: t, nc: nc, fr: http2.NewFramer(nc, nc), eof: make(chan struct{}), acks: !mute}
	p.fr.AllowIllegalWrites = true
	p.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	p.fr.SetMaxReadFrameSize(1 << 20)
	p.henc = hpack.NewEncoder(&p.hbuf)
	go p.collect(fromClient)
	t.Cleanup(func() { nc.Close(); <-p.eof })
	return p
}

func (p *peer) collect(fromClient bool) {
	defer close(p.eof)
	if fromClient {
		io.ReadFull(p.nc, make([]byte, len(http2.ClientPreface)))
	}
	for {
		f, err := p.fr.ReadFrame()
		if err != nil {
			p.mu.Lock()
			p.gone = true
			p.mu.Unlock()
			return
		}
		p.mu.Lock()
		p.frames = append(p.frames, f.Header().Type.String())
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			p.goaway = f.ErrCode
		case *http2.RSTStreamFrame:
			p.frames[len(p.frames)-1] += " " + f.ErrCode.String()
		case *http2.MetaHeadersFrame:
			p.frames[len(p.frames)-1] += " " + f.PseudoValue("status") + f.PseudoValue("method")
		}
		p.mu.Unlock()
	}
}

func (p *peer) saw(want string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.frames {
		if f == want {
			return true
		}
	}
	return false
}

func (p *peer) count(want string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.frames {
		if f == want {
			n++
		}
	}
	return n
}

func (p *peer) ended() (bool, http2.ErrCode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gone, p.goaway
}

func (p *peer) headers(id uint32, end bool, kv ...string) {
	p.hbuf.Reset()
	for i := 0; i < len(kv); i += 2 {
		p.henc.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]})
	}
	p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.hbuf.Bytes(), EndHeaders: true, EndStream: end})
}

func (p *peer) connect(id uint32) {
	p.headers(id, false, ":method", "CONNECT", ":authority", "10.0.0.1:80")
}

// againstServer runs script as a client of a real server, in a bubble; the preface and SETTINGS were sent.
func againstServer(t *testing.T, cfg Config, handle func(*Stream, *Head), script func(p *peer, run func() error)) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		var wg sync.WaitGroup
		var err error
		done := make(chan struct{})
		wg.Go(func() { err = ServeConn(t.Context(), b, cfg, handler(handle)); close(done) })
		p := newPeer(t, a, false, false)
		io.WriteString(a, http2.ClientPreface)
		p.fr.WriteSettings()
		script(p, func() error { <-done; return err })
		a.Close()
		wg.Wait()
	})
}
