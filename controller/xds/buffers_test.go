package xds

import "testing"

// TestBuffers: what is asked for is what comes, small buffers are not held as full frames, and a frame that comes back is used again
// for a shorter one without being cut down for good.
func TestBuffers(t *testing.T) {
	p := Buffers().(*buffers)
	for _, n := range []int{0, 1, frameSize / 4, frameSize/4 + 1, frameSize - 1, frameSize, frameSize + 1, 1 << 20} {
		b := p.Get(n)
		if len(*b) != n {
			t.Errorf("%d bytes asked for, %d given", n, len(*b))
		}
		if n <= frameSize/4 && cap(*b) > frameSize/4 {
			t.Errorf("%d bytes asked for, %d held", n, cap(*b))
		}
		*b = (*b)[:n/2] // as gRPC does with padding
		p.Put(b)
	}
	short := make([]byte, 8)
	p.Put(&short)
	for range 8 {
		if b := p.Get(frameSize); len(*b) != frameSize {
			t.Fatalf("a frame of %d bytes", len(*b))
		}
	}
}
