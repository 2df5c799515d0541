package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/ambit-mesh/ambit/ztunnel/hbone/buffer"
)

func record(n int) []byte {
	b := make([]byte, recordHeader+n)
	b[0], b[1], b[2] = 23, 3, 3
	binary.BigEndian.PutUint16(b[3:], uint16(n))
	for i := range n {
		b[recordHeader+i] = byte(i)
	}
	return b
}

func sockets(t *testing.T) (a, b net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// TestReadsEndAtRecords feeds records cut at random places and checks that no Read crosses a record's end, that
// nothing is lost, and that HasRecord tells the truth.
func TestReadsEndAtRecords(t *testing.T) {
	for name, pair := range map[string]func() (net.Conn, net.Conn){
		"socket": func() (net.Conn, net.Conn) { return sockets(t) },
		"pipe":   net.Pipe,
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			var sizes []int
			var wire []byte
			for range 400 {
				n := r.IntN(16640)
				sizes = append(sizes, n)
				wire = append(wire, record(n)...)
			}
			a, b := pair()
			go func() {
				r := rand.New(rand.NewPCG(3, 4))
				for rest := wire; len(rest) > 0; {
					n := min(len(rest), 1+r.IntN(40000))
					a.Write(rest[:n])
					rest = rest[n:]
				}
				a.Close()
			}()
			c := New(b)
			var got []byte
			p := make([]byte, 20000)
			for i, n := range sizes {
				if err := c.WaitRecord(); err != nil {
					t.Fatalf("record %d: %v", i, err)
				}
				for left := recordHeader + n; left > 0; {
					if !c.HasRecord() {
						t.Fatalf("record %d vanished", i)
					}
					k, err := c.Read(p[:1+r.IntN(len(p)-1)])
					if err != nil || k > left {
						t.Fatalf("record %d: read %d of %d left: %v", i, k, left, err)
					}
					got = append(got, p[:k]...)
					left -= k
				}
			}
			if !bytes.Equal(got, wire) {
				t.Error("bytes differ")
			}
			if err := c.WaitRecord(); err != io.EOF {
				t.Errorf("end: %v", err)
			}
			if c.in != nil {
				t.Error("a buffer is held after the end")
			}
		})
	}
}

func TestEveryTruncationIsUnexpectedEOF(t *testing.T) {
	wire := record(40)
	for n := 1; n < len(wire); n++ {
		a, b := net.Pipe()
		go func() { a.Write(wire[:n]); a.Close() }()
		if err := New(b).WaitRecord(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestWaitingHoldsLittle(t *testing.T) {
	a, b := sockets(t)
	c := New(b)
	a.Write(record(100)[:50])
	done := make(chan error)
	go func() { done <- c.WaitRecord() }()
	a.Write(record(100)[50:])
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	c.settle()
	if len(c.in.B) != buffer.Small {
		t.Errorf("waits with a buffer of %d bytes", len(c.in.B))
	}
	io.ReadFull(c, make([]byte, 105))
	if c.in != nil {
		t.Error("waits with a buffer for nothing")
	}
}

// countingConn counts writes.
type countingConn struct {
	net.Conn
	writes int
	got    bytes.Buffer
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.writes++
	return c.got.Write(p)
}

func TestCorkedWritesLeaveTogether(t *testing.T) {
	under := &countingConn{}
	c := New(under)
	c.Write([]byte("first"))
	c.Cork()
	var want bytes.Buffer
	want.WriteString("first")
	for range 8 {
		r := record(16384 + 17)
		want.Write(r)
		if n, err := c.Write(r); n != len(r) || err != nil {
			t.Fatal(n, err)
		}
	}
	if under.writes != 1 {
		t.Errorf("%d writes before Flush", under.writes)
	}
	c.Flush()
	if under.writes != 2 {
		t.Errorf("%d writes for eight records", under.writes-1)
	}
	c.Write([]byte("last"))
	want.WriteString("last")
	if under.writes != 3 || !bytes.Equal(under.got.Bytes(), want.Bytes()) {
		t.Error("order or content differ")
	}
}

// FuzzRead checks that any bytes come through unchanged, whatever the record headers in them say.
func FuzzRead(f *testing.F) {
	f.Add(record(10), uint16(3))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), uint16(100))
	f.Add([]byte{23, 3, 3, 255, 255, 1, 2, 3}, uint16(7))
	f.Fuzz(func(t *testing.T, wire []byte, step uint16) {
		a, b := net.Pipe()
		go func() {
			for rest := wire; len(rest) > 0; {
				n := min(len(rest), int(step)+1)
				if _, err := a.Write(rest[:n]); err != nil {
					return
				}
				rest = rest[n:]
			}
			a.Close()
		}()
		got, err := io.ReadAll(New(b))
		if err != nil || !bytes.Equal(got, wire) {
			t.Fatalf("got %d of %d bytes, %v", len(got), len(wire), err)
		}
	})
}
