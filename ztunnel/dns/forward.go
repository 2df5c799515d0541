package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Dial opens a connection to a nameserver from inside the pod; network is "udp" or "tcp".
type Dial func(ctx context.Context, network string, nameserver netip.AddrPort) (net.Conn, error)

const (
	forwardTimeout = 5 * time.Second // for a question, all attempts together
	attemptTimeout = 2 * time.Second // for one nameserver over UDP
	attempts       = 2               // of each nameserver
)

// ErrNotKnown is Dial's answer where it was to find the nameserver that the application addressed, and nothing tells.
var ErrNotKnown = errors.New("nothing tells which nameserver was addressed")

// errNoServer says that it is not known whom to ask.
var errNoServer = errors.New("no nameserver known")

// forward asks nameservers in turn and returns the first answer, as it came but for the id and the flags that are ours
// to set. query is the client's message.
func forward(ctx context.Context, dial Dial, servers []netip.AddrPort, tcp bool, id uint16, query []byte, q *dns.Msg) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
	defer cancel()
	err := errNoServer
	for range attempts {
		for _, server := range servers {
			if ctx.Err() != nil {
				return nil, errors.Join(err, ctx.Err())
			}
			var answer []byte
			if answer, err = ask(ctx, dial, server, tcp, id, query, q); err == nil {
				return answer, nil
			}
		}
	}
	return nil, err
}

// ask puts the question to one nameserver.
func ask(ctx context.Context, dial Dial, server netip.AddrPort, tcp bool, id uint16, query []byte, q *dns.Msg) ([]byte, error) {
	network := "tcp"
	if !tcp {
		network = "udp"
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, attemptTimeout)
		defer cancel()
	}
	conn, err := dial(ctx, network, server)
	if err != nil {
		return nil, fmt.Errorf("nameserver %s: %w", server, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	out := append([]byte(nil), query...)
	binary.BigEndian.PutUint16(out, id)
	answer, err := exchange(conn, tcp, out, q)
	if err != nil {
		return nil, fmt.Errorf("nameserver %s: %w", server, err)
	}
	ours(answer, q.Id)
	return answer, nil
}

// exchange sends and waits for the answer to that question; what else arrives over UDP is ignored.
func exchange(conn net.Conn, tcp bool, query []byte, q *dns.Msg) ([]byte, error) {
	if tcp {
		if err := writeTCP(conn, query); err != nil {
			return nil, err
		}
		answer, err := readTCP(conn)
		if err == nil && !answers(answer, query, q) {
			err = errors.New("answer to another question")
		}
		return answer, err
	}
	if _, err := conn.Write(query); err != nil {
		return nil, err
	}
	buf := make([]byte, maxMessage)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		if answers(buf[:n], query, q) {
			return append([]byte(nil), buf[:n]...), nil
		}
	}
}

// answers reports whether a message is the answer to a query: same id, a response, the same question. A server that could
// not read the question may leave it out.
func answers(answer, query []byte, q *dns.Msg) bool {
	if len(answer) < headerSize || binary.BigEndian.Uint16(answer) != binary.BigEndian.Uint16(query) || answer[2]&0x80 == 0 {
		return false
	}
	if binary.BigEndian.Uint16(answer[4:]) == 0 {
		return answer[3]&0x0f != dns.RcodeSuccess
	}
	name, off, err := dns.UnpackDomainName(answer, headerSize)
	if err != nil || len(answer) < off+4 {
		return false
	}
	want := q.Question[0]
	return strings.EqualFold(name, want.Name) && binary.BigEndian.Uint16(answer[off:]) == want.Qtype &&
		binary.BigEndian.Uint16(answer[off+2:]) == want.Qclass
}

// ours puts the client's id into a forwarded answer, and says that we do not speak with authority but do recurse.
func ours(answer []byte, id uint16) {
	binary.BigEndian.PutUint16(answer, id)
	answer[2] &^= 0x04 // AA
	answer[3] |= 0x80  // RA
}

// fit makes a forwarded answer no longer than the client takes.
func fit(answer []byte, limit int) ([]byte, error) {
	if len(answer) <= limit {
		return answer, nil
	}
	var m dns.Msg
	if err := m.Unpack(answer); err != nil {
		return nil, fmt.Errorf("forwarded answer: %w", err)
	}
	return pack(&m, limit)
}

// readTCP reads a message with its length before it (RFC 1035 4.2.2).
func readTCP(r io.Reader) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	msg := make([]byte, binary.BigEndian.Uint16(length[:]))
	if len(msg) < headerSize {
		return nil, errors.New("message shorter than a header")
	}
	_, err := io.ReadFull(r, msg)
	return msg, err
}

func writeTCP(w io.Writer, msg []byte) error {
	if len(msg) > maxMessage {
		return fmt.Errorf("message of %d bytes: want at most %d", len(msg), maxMessage)
	}
	_, err := w.Write(append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(msg)), uint16(len(msg))), msg...))
	return err
}
