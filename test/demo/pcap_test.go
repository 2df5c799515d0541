package demo

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
)

func TestFlowsPutsSegmentsInOrder(t *testing.T) {
	const start = uint32(0xffffff00) // wraps within the flow
	file := pcapFile(
		frame(start, 2, ""),              // SYN
		frame(start+1+5, 16, "world"),    // early
		frame(start+1, 16, "hello"),      // late
		frame(start+1, 16, "hello"),      // sent again
		frame(start+1+3, 16, "loworld!"), // overlaps and goes further
		frame(start+1+200, 16, "lost"),   // behind a gap
	)
	got, begun, err := flows(file)
	if err != nil {
		t.Fatal(err)
	}
	key := flowKey{netip.MustParseAddrPort("10.0.0.1:1234"), netip.MustParseAddrPort("10.0.0.2:15008")}
	if string(got[key]) != "helloworld!" || !begun[key] {
		t.Errorf("flow: %q, begun %v", got[key], begun[key])
	}
	if got, begun, err = flows(pcapFile(frame(start+1, 16, "hello"))); err != nil || string(got[key]) != "hello" || begun[key] {
		t.Errorf("a flow from before the capture: %q, begun %v, %v", got[key], begun[key], err)
	}
}

func TestServerVersion(t *testing.T) {
	hello := func(extensions []byte) []byte {
		b := append([]byte{22, 3, 3, 0, 0, 2, 0, 0, 0, 3, 3}, make([]byte, 32)...)
		b = append(b, 0, 0x13, 0x01, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(len(extensions)))
		return append(b, extensions...)
	}
	for name, c := range map[string]struct {
		in   []byte
		want uint16
		bad  bool
	}{
		"1.3":              {in: hello([]byte{0, 43, 0, 2, 3, 4}), want: 0x0304},
		"1.3 after others": {in: hello([]byte{0, 51, 0, 1, 9, 0, 43, 0, 2, 3, 4}), want: 0x0304},
		"1.2":              {in: hello(nil), want: 0x0303},
		"client hello":     {in: append([]byte{22, 3, 3, 0, 0, 1}, make([]byte, 60)...), bad: true},
		"plaintext":        {in: []byte("GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: something long enough"), bad: true},
		"empty":            {bad: true},
	} {
		got, err := serverVersion(c.in)
		if got != c.want || (err != nil) != c.bad {
			t.Errorf("%s: %#x, %v", name, got, err)
		}
		for n := range c.in { // no prefix may panic
			_, _ = serverVersion(c.in[:n])
		}
	}
}

func FuzzFlows(f *testing.F) {
	f.Add(pcapFile(frame(7, 2, ""), frame(8, 16, "data")))
	f.Fuzz(func(t *testing.T, file []byte) {
		got, _, err := flows(file)
		if err != nil {
			return
		}
		for _, data := range got {
			if len(data) > len(file) {
				t.Fatalf("a flow of %d bytes out of a file of %d", len(data), len(file))
			}
			_, _ = serverVersion(data)
		}
	})
}

// frame is an Ethernet frame of 10.0.0.1:1234 to 10.0.0.2:15008.
func frame(seq uint32, flags byte, payload string) []byte {
	b := append(make([]byte, 12), 8, 0)
	b = append(b, 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(40+len(payload)))
	b = append(b, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2)
	b = binary.BigEndian.AppendUint16(b, 1234)
	b = binary.BigEndian.AppendUint16(b, 15008)
	b = binary.BigEndian.AppendUint32(b, seq)
	b = append(b, 0, 0, 0, 0, 5<<4, flags, 0, 0, 0, 0, 0, 0)
	return append(b, payload...)
}

func pcapFile(frames ...[]byte) []byte {
	var b bytes.Buffer
	header := make([]byte, 24)
	binary.LittleEndian.PutUint32(header, 0xa1b2c3d4)
	binary.LittleEndian.PutUint32(header[20:], 1)
	b.Write(header)
	for _, f := range frames {
		record := make([]byte, 16)
		binary.LittleEndian.PutUint32(record[8:], uint32(len(f)))
		binary.LittleEndian.PutUint32(record[12:], uint32(len(f)))
		b.Write(record)
		b.Write(f)
	}
	return b.Bytes()
}
