package xds

import (
	"bytes"
	"testing"
)

// TestASCII: a byte above 127 is seen at every place of every length.
func TestASCII(t *testing.T) {
	for n := range 40 {
		b := bytes.Repeat([]byte{0x7f}, n)
		if !ascii(b) {
			t.Errorf("%d bytes below 128 are not taken", n)
		}
		for i := range n {
			b[i] = 0x80
			if ascii(b) {
				t.Errorf("byte %d of %d is above 127 and not seen", i, n)
			}
			b[i] = 0x7f
		}
	}
}
