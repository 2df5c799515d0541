package demo

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/test/netlab"
)

// capture is what tcpdump saw on a port of the wire.
type capture struct {
	raw   []byte // the whole file
	flow  map[flowKey][]byte
	begun map[flowKey]bool // the flow's first byte is there
}

// flowKey is one direction of a TCP connection.
type flowKey struct{ src, dst netip.AddrPort }

// record runs tcpdump on a node's end of the wire while do runs.
func (w *World) record(ctx context.Context, node string, do func() error) (c capture, err error) {
	file := filepath.Join(w.Lab.Dir(), "data", fmt.Sprintf("wire-%d.pcap", time.Now().UnixNano()))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return c, err
	}
	tcpdump, err := w.Lab.Capture(ctx, node, file)
	if err != nil {
		return c, err
	}
	doErr := do()
	// The kernel hands packets over in batches: what was sent last must have arrived in the file.
	lastErr := netlab.Poll(ctx, 3*time.Second, func() error {
		if content, err := os.ReadFile(file); err != nil || !bytes.Contains(content, []byte(control)) {
			return errors.Join(err, errors.New("the capture lacks the text sent in the clear"))
		}
		return nil
	})
	if err := errors.Join(doErr, lastErr, tcpdump.Stop(ctx, unix.SIGINT, 5*time.Second)); err != nil {
		return c, err
	}
	if c.raw, err = os.ReadFile(file); err != nil {
		return c, err
	}
	c.flow, c.begun, err = flows(c.raw)
	return c, err
}

// tls13 finds connections to port 15008 and wants each handshake to have settled on TLS 1.3. Connections that were there before
// the capture, of other pods perhaps, have no handshake in it.
func (c capture) tls13() (string, error) {
	clients, version, payload := 0, uint16(0), 0
	for key, data := range c.flow {
		switch {
		case !c.begun[key]:
		case key.dst.Port() == 15008:
			if len(data) < 6 || data[0] != 22 || data[5] != 1 { // handshake record, ClientHello
				return "", fmt.Errorf("a connection to %s does not begin with a TLS ClientHello", key.dst)
			}
			clients++
			payload += len(data)
		case key.src.Port() == 15008:
			got, err := serverVersion(data)
			if err != nil {
				return "", fmt.Errorf("answer from %s: %w", key.src, err)
			}
			if got != 0x0304 {
				return "", fmt.Errorf("the server at %s chose TLS version %#04x", key.src, got)
			}
			version = got
			payload += len(data)
		}
	}
	if clients == 0 || version == 0 {
		return "", errors.New("no new connection to port 15008 on the wire")
	}
	return fmt.Sprintf("%d tunnel(s), ServerHello chose TLS 1.3, %d bytes of TLS", clients, payload), nil
}

// secret wants the marker absent and, as a control, what was sent outside the mesh present.
func (c capture) secret() (string, error) {
	if !bytes.Contains(c.raw, []byte(control)) {
		return "", errors.New("the capture lacks the text sent in the clear, so it proves nothing")
	}
	if bytes.Contains(c.raw, []byte(marker)) {
		return "", errors.New("the marker stands on the wire in the clear")
	}
	for key := range c.flow {
		if key.dst.Port() == 80 {
			return "", fmt.Errorf("a connection to port 80 crossed the wire: %s to %s", key.src, key.dst)
		}
	}
	return fmt.Sprintf("%d bytes captured: no marker, no connection to port 80; plaintext from outside the mesh is there", len(c.raw)), nil
}

// serverVersion reads the version a TLS server chose: the supported_versions extension of its ServerHello (RFC 8446, 4.2.1).
func serverVersion(b []byte) (uint16, error) {
	bad := errors.New("not a ServerHello")
	// record(5) handshake(4) version(2) random(32) session id(1+n) cipher(2) compression(1) extensions(2+n)
	if len(b) < 44 || b[0] != 22 || b[5] != 2 {
		return 0, bad
	}
	legacy := binary.BigEndian.Uint16(b[9:])
	at := 43 + 1 + int(b[43]) + 3
	if len(b) < at+2 {
		return 0, bad
	}
	end := at + 2 + int(binary.BigEndian.Uint16(b[at:]))
	for at += 2; at+4 <= end && at+4 <= len(b); {
		kind, size := binary.BigEndian.Uint16(b[at:]), int(binary.BigEndian.Uint16(b[at+2:]))
		if kind == 43 && size == 2 && at+6 <= len(b) {
			return binary.BigEndian.Uint16(b[at+4:]), nil
		}
		at += 4 + size
	}
	return legacy, nil
}
