package floor

import "net"

// batched makes system calls large: reads fill one big buffer, and writes between hold and flush leave together.
// One goroutine reads and one writes, as crypto/tls does.
type batched struct {
	*net.TCPConn
	in      []byte // what was read and not yet asked for is in[off:]
	off     int
	out     []byte
	holding bool
}

func (b *batched) Read(p []byte) (int, error) {
	if b.off == len(b.in) {
		n, err := b.TCPConn.Read(b.in[:cap(b.in)])
		if n <= 0 {
			return n, err
		}
		b.in, b.off = b.in[:n], 0
	}
	n := copy(p, b.in[b.off:])
	b.off += n
	return n, nil
}

// wholeRecord reports whether the next TLS record is here in full, so that reading it cannot block.
func (b *batched) wholeRecord() bool {
	rest := b.in[b.off:]
	return len(rest) >= 5 && len(rest) >= 5+int(rest[3])<<8+int(rest[4])
}

func (b *batched) hold() { b.holding = true }

func (b *batched) Write(p []byte) (int, error) {
	if !b.holding {
		return b.TCPConn.Write(p)
	}
	b.out = append(b.out, p...)
	return len(p), nil
}

func (b *batched) flush() error {
	b.holding = false
	_, err := b.TCPConn.Write(b.out)
	b.out = b.out[:0]
	return err
}
