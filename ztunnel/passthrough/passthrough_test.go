package passthrough

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/ambit-mesh/ambit/ztunnel/sockets/socketstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type relay struct {
	client, server     *net.TCPConn // the far ends
	near, far          *net.TCPConn // what is relayed
	toServer, toClient atomic.Uint64
	done               chan Result
}

func start(t testing.TB) *relay {
	r := &relay{done: make(chan Result, 1)}
	r.client, r.near = socketstest.Pair(t)
	r.far, r.server = socketstest.Pair(t)
	go func() { r.done <- Relay(r.near, r.far, &r.toServer, &r.toClient) }()
	return r
}

func TestBothWays(t *testing.T) {
	for _, size := range []int{0, 1, 1000, 16896, 16897, 5 << 20} {
		r := start(t)
		up, down := make([]byte, size), make([]byte, size/2+1)
		fill(up)
		fill(down)
		var all sync.WaitGroup
		send := func(c *net.TCPConn, data []byte) {
			if _, err := c.Write(data); err != nil {
				t.Error(err)
			}
			c.CloseWrite()
		}
		all.Go(func() { send(r.client, up) })
		all.Go(func() { send(r.server, down) })
		for c, want := range map[*net.TCPConn][]byte{r.client: down, r.server: up} {
			all.Go(func() {
				got, err := io.ReadAll(c)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d bytes: got %d of %d, err %v", size, len(got), len(want), err)
				}
			})
		}
		all.Wait()
		if res := <-r.done; res.Err != nil {
			t.Errorf("%d bytes: %v", size, res.Err)
		}
		if r.toServer.Load() != uint64(len(up)) || r.toClient.Load() != uint64(len(down)) {
			t.Errorf("counted %d and %d, want %d and %d", r.toServer.Load(), r.toClient.Load(), len(up), len(down))
		}
	}
}

func fill(b []byte) {
	rng := rand.NewChaCha8(sha256.Sum256(nil))
	_, _ = rng.Read(b)
}

// One side has said all and still hears the other.
func TestHalfClose(t *testing.T) {
	r := start(t)
	r.client.Write([]byte("question"))
	r.client.CloseWrite()
	if got, err := io.ReadAll(r.server); err != nil || string(got) != "question" {
		t.Fatalf("server got %q, %v", got, err)
	}
	r.server.Write([]byte("answer"))
	r.server.Close()
	if got, err := io.ReadAll(r.client); err != nil || string(got) != "answer" {
		t.Fatalf("client got %q, %v", got, err)
	}
	if res := <-r.done; res.Err != nil {
		t.Error(res.Err)
	}
}

func TestResetTravels(t *testing.T) {
	for _, byClient := range []bool{true, false} {
		r := start(t)
		from, to := r.server, r.client
		if byClient {
			from, to = r.client, r.server
		}
		from.Write([]byte("x"))
		if _, err := io.ReadFull(to, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		Reset(from)
		if _, err := to.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("by client %v: the other side got %v, want a reset", byClient, err)
		}
		if res := <-r.done; !errors.Is(res.Err, syscall.ECONNRESET) || res.ByClient != byClient {
			t.Errorf("by client %v: %+v", byClient, res)
		}
	}
}

// Somebody else ends it: both sides see a reset.
func TestEndedFromOutside(t *testing.T) {
	r := start(t)
	r.client.Write([]byte("x"))
	if _, err := io.ReadFull(r.server, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	Reset(r.near)
	for _, c := range []*net.TCPConn{r.client, r.server} {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v, want a reset", err)
		}
	}
	if res := <-r.done; !errors.Is(res.Err, net.ErrClosed) {
		t.Errorf("%+v", res)
	}
}

// A server that ends without having read everything has reset the connection, whichever direction notices first.
func TestEndWithUnreadData(t *testing.T) {
	for range 20 {
		r := start(t)
		sent := make(chan error, 1)
		go func() {
			_, err := r.client.Write(make([]byte, 32<<20))
			sent <- err
		}()
		if _, err := io.ReadFull(r.server, make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
		r.server.Close()
		if err := <-sent; !errors.Is(err, syscall.ECONNRESET) { // an end of file first would make it EPIPE
			t.Errorf("the client sees %v, want a reset", err)
		}
		if res := <-r.done; res.Err == nil || res.ByClient {
			t.Errorf("%+v", res)
		}
	}
}

// A reader that does not read stops the writer, not the other direction.
func TestSlowReader(t *testing.T) {
	r := start(t)
	const size = 32 << 20
	sent := make(chan error, 1)
	go func() {
		_, err := r.client.Write(make([]byte, size))
		r.client.CloseWrite()
		sent <- err
	}()
	r.server.Write([]byte("still here"))
	buf := make([]byte, 10)
	if _, err := io.ReadFull(r.client, buf); err != nil || string(buf) != "still here" {
		t.Fatalf("%q, %v", buf, err)
	}
	select {
	case err := <-sent:
		t.Errorf("32 MiB sent to nobody: %v", err)
	default:
	}
	if n, err := io.Copy(io.Discard, r.server); n != size || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	r.server.Close()
	<-r.done
}

func TestNoPipesLeft(t *testing.T) {
	var all []*pipe
	for p := pipes.get(); p != nil; p = pipes.get() {
		all = append(all, p)
	}
	if len(all) != maxPipes {
		t.Errorf("%d pipes, want %d", len(all), maxPipes)
	}
	TestBothWays(t)
	for _, p := range all {
		pipes.put(p)
	}
	if len(pipes.idle) != maxIdlePipes || pipes.made != maxIdlePipes {
		t.Errorf("%d idle of %d made", len(pipes.idle), pipes.made)
	}
}

func BenchmarkBulk(b *testing.B) {
	r := start(b)
	buf := make([]byte, 256<<10)
	b.SetBytes(int64(len(buf)))
	go func() {
		for range b.N {
			r.client.Write(buf)
		}
		r.client.CloseWrite()
	}()
	sink := make([]byte, 256<<10)
	for {
		if _, err := r.server.Read(sink); err != nil {
			break
		}
	}
	r.server.Close()
	<-r.done
}
