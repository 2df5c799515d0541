package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// What the checks send so that they can look for it on the wire.
const (
	secretText = "told-in-confidence"
	openText   = "told-in-the-open"
)

// wire: between the nodes stands TLS, and nothing of what the pods say.
func wire() Check {
	return Check{"mutual TLS on the wire", []Step{
		{"no plaintext of the mesh between the nodes", func(ctx context.Context, w *World) (string, error) {
			raw, err := w.record(ctx, "n2", func() error {
				server, err := w.podIP(ctx, "inside", "app=server")
				if err != nil {
					return err
				}
				for range 3 {
					if _, err := w.in(ctx, "inside/client", "get", "http://server.inside/"+secretText); err != nil {
						return err
					}
				}
				// From outside the mesh, last: once it is in the capture, so is what went before.
				_, err = w.in(ctx, "outside/stranger", "get", "http://"+server+":8080/"+openText)
				return err
			})
			if err != nil {
				return "", err
			}
			if bytes.Contains(raw, []byte(secretText)) {
				return "", errors.New("what was said in the mesh stands on the wire")
			}
			records := tunnelRecords(raw)
			if records == 0 {
				return "", errors.New("no TLS record goes to or comes from port 15008")
			}
			return fmt.Sprintf("%d bytes between the nodes: %q is there (from outside the mesh), %q is not; %d segments of TLS with port 15008",
				len(raw), openText, secretText, records), nil
		}},
	}}
}

// record captures what passes a node's link while do runs, and until what it said in the open has arrived.
func (w *World) record(ctx context.Context, node string, do func() error) ([]byte, error) {
	file := filepath.Join(w.Work, "wire.pcap")
	if err := os.RemoveAll(file); err != nil {
		return nil, err
	}
	var said bytes.Buffer
	cmd := w.onNodeCommand(ctx, node, "tcpdump", "-i", "eth0", "-U", "--immediate-mode", "-s", "0", "-Z", "root", "-w", file, "tcp")
	log, err := os.Create(filepath.Join(w.Work, "tcpdump.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = &said, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	err = poll(ctx, 10*time.Second, func() error {
		text, err := os.ReadFile(log.Name())
		if err == nil && !strings.Contains(string(text), "listening on") {
			err = fmt.Errorf("tcpdump says: %s", text)
		}
		return err
	})
	var raw []byte
	if err == nil {
		err = do()
	}
	if err == nil {
		err = poll(ctx, 10*time.Second, func() (err error) {
			if raw, err = os.ReadFile(file); err == nil && !bytes.Contains(raw, []byte(openText)) {
				err = fmt.Errorf("%q is not in the capture", openText)
			}
			return err
		})
	}
	killed := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) // tcpdump, and what entered the node for it
	_ = cmd.Wait()
	return raw, errors.Join(err, killed)
}

// tunnelRecords counts segments that hold a TLS record and have port 15008 at either end, in Ethernet frames of IPv4 and IPv6.
func tunnelRecords(pcap []byte) (n int) {
	for rest := pcap[min(len(pcap), 24):]; len(rest) >= 16; {
		size := int(rest[8]) | int(rest[9])<<8 | int(rest[10])<<16
		if len(rest) < 16+size {
			break
		}
		if tunnelRecord(segment(rest[16 : 16+size])) {
			n++
		}
		rest = rest[16+size:]
	}
	return n
}

// segment is what an Ethernet frame holds of TCP; nil if it is something else.
func segment(frame []byte) []byte {
	const ethernet, v6 = 14, 40
	switch {
	case len(frame) >= ethernet+40 && frame[12] == 0x08 && frame[13] == 0 && frame[ethernet+9] == 6:
		return frame[min(len(frame), ethernet+int(frame[ethernet]&15)*4):]
	case len(frame) >= ethernet+v6 && frame[12] == 0x86 && frame[13] == 0xdd && frame[ethernet+6] == 6:
		return frame[ethernet+v6:]
	}
	return nil
}

func tunnelRecord(tcp []byte) bool {
	const port = 15008
	if len(tcp) < 20 || len(tcp) <= int(tcp[12]>>4)*4+2 {
		return false
	}
	payload := tcp[int(tcp[12]>>4)*4:]
	src, dst := int(tcp[0])<<8|int(tcp[1]), int(tcp[2])<<8|int(tcp[3])
	return (src == port || dst == port) && payload[0] >= 20 && payload[0] <= 23 && payload[1] == 3 // RFC 8446, 5.1
}
