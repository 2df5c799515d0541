//lint:file-ignore SA1019 the low-level types are foreign peers whose connections the test owns; net/http hides them

package hbone

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"
)

// randomBytes returns n reproducible bytes.
func randomBytes(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 99))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// flushing writes through and flushes, as a Go HTTP server must for a tunnel.
type flushing struct {
	http.ResponseWriter
	*http.ResponseController
}

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.ResponseWriter.Write(p)
	f.Flush()
	return n, err
}

// TestOurClientWithGoServer tunnels through the HTTP/2 server of golang.org/x/net/http2, over TLS.
func TestOurClientWithGoServer(t *testing.T) {
	a, b := tlsPair(t)
	var srv http2.Server
	var wg sync.WaitGroup
	wg.Go(func() {
		srv.ServeConn(b, &http2.ServeConnOpts{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodConnect || r.Header.Get("baggage") == "" {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			if r.Host == "10.0.0.9:1" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			w.Header().Set("baggage", "service.name=go")
			w.WriteHeader(http.StatusOK)
			rc := http.NewResponseController(w)
			rc.Flush()
			io.Copy(flushing{w, rc}, r.Body)
		})})
	})
	cc := NewClientConn(a, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	wg.Go(func() { cc.Run(ctx) })
	defer wg.Wait()
	defer cancel()

	h := testHead
	h.Authority = "10.0.0.9:1"
	if _, resp, _ := cc.Connect(t.Context(), &h); resp.Status != StatusDenied {
		t.Errorf("refusal: %+v", resp)
	}
	var streams sync.WaitGroup
	for i := range 8 {
		streams.Go(func() {
			h := testHead
			s, resp, err := cc.Connect(t.Context(), &h)
			if err != nil || resp.Baggage.Service != "go" {
				t.Errorf("%+v, %v", resp, err)
				return
			}
			data := randomBytes(uint64(i), 2<<20)
			streams.Go(func() {
				s.Write(data)
				s.CloseWrite()
			})
			got, err := io.ReadAll(s)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d of %d bytes, %v", len(got), len(data), err)
			}
		})
	}
	streams.Wait()
}

// TestGoClientWithOurServer tunnels from the HTTP/2 client of golang.org/x/net/http2 to a relay and a TCP server.
func TestGoClientWithOurServer(t *testing.T) {
	a, b := tlsPair(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		ServeConn(ctx, b, Config{}, handler(func(s *Stream, h *Head) {
			if h.Authority == "10.0.0.9:1" {
				s.Refuse(StatusDenied)
				return
			}
			app, ours := tcpPair(t)
			wg.Go(func() {
				io.Copy(app, app)
				app.CloseWrite()
			})
			if s.Accept(Baggage{Service: "ours"}) == nil {
				relay(t, ours, s)
			}
		}))
	})
	cc, err := (&http2.Transport{}).NewClientConn(a)
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	request := func(authority string, body io.Reader) (*http.Response, error) {
		return cc.RoundTrip((&http.Request{
			Method: http.MethodConnect, URL: &url.URL{Scheme: "https", Host: authority}, Host: authority,
			Header: http.Header{"Baggage": {"service.name=go"}}, Body: io.NopCloser(body), ContentLength: -1,
		}).WithContext(t.Context()))
	}
	if resp, err := request("10.0.0.9:1", strings.NewReader("")); err != nil || resp.StatusCode != 401 {
		t.Errorf("%v, %v", resp, err)
	}
	var streams sync.WaitGroup
	for i := range 8 {
		streams.Go(func() {
			data := randomBytes(uint64(i), 2<<20)
			resp, err := request("10.0.0.1:1", bytes.NewReader(data))
			if err != nil || resp.StatusCode != 200 || resp.Header.Get("baggage") != "service.name=ours" {
				t.Errorf("%v, %v", resp, err)
				return
			}
			defer resp.Body.Close()
			h := sha256.New()
			if _, err := io.Copy(h, resp.Body); err != nil {
				t.Error(err)
			}
			if want := sha256.Sum256(data); !bytes.Equal(want[:], h.Sum(nil)) {
				t.Error("bytes differ")
			}
		})
	}
	streams.Wait()
}

// TestPlainNetHTTPServer uses the server inside net/http, which negotiates h2 by ALPN itself.
func TestPlainNetHTTPServer(t *testing.T) {
	serverCfg, clientCfg := testTLS()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{TLSConfig: serverCfg.Clone(), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		rc.Flush()
		io.Copy(flushing{w, rc}, r.Body)
	})}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { srv.ServeTLS(l, "", "") })
	defer srv.Close()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	tc, err := new(Handshaker).Client(t.Context(), nc, clientCfg)
	if err != nil {
		t.Fatal(err)
	}
	cc := NewClientConn(tc, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	wg.Go(func() { cc.Run(ctx) })
	s := open(t, cc)
	data := randomBytes(1, 1<<20)
	wg.Go(func() {
		s.Write(data)
		s.CloseWrite()
	})
	if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
