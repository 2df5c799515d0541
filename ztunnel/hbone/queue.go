package hbone

import "github.com/ambit-mesh/ambit/ztunnel/hbone/buffer"

// queue holds bytes that arrived and have no taker yet, in pooled buffers of one record each. Flow control bounds it. The
// stream's mu guards it.
type queue struct {
	chunks []chunk
	size   int
}

type chunk struct {
	buf  *buffer.Buf
	r, w int
}

func (c *chunk) bytes() []byte { return c.buf.B[c.r:c.w] }

// add copies p to the end, filling the last chunk first so that tiny frames do not each take a buffer.
func (q *queue) add(p []byte) {
	q.size += len(p)
	for len(p) > 0 {
		last := len(q.chunks) - 1
		if last < 0 || q.chunks[last].w == len(q.chunks[last].buf.B) {
			q.chunks = append(q.chunks, chunk{buf: buffer.GetSmall()})
			last++
		}
		c := &q.chunks[last]
		n := copy(c.buf.B[c.w:], p)
		c.w += n
		p = p[n:]
	}
}

// read moves bytes from the front into p.
func (q *queue) read(p []byte) int {
	total := 0
	for len(p) > 0 && len(q.chunks) > 0 {
		c := &q.chunks[0]
		n := copy(p, c.bytes())
		c.r += n
		total += n
		p = p[n:]
		if c.r == c.w {
			buffer.Put(c.buf)
			q.shift(1)
		}
	}
	q.size -= total
	return total
}

// pop takes up to max chunks from the front; the caller puts their buffers back.
func (q *queue) pop(dst []chunk, max int) []chunk {
	n := min(max, len(q.chunks))
	for _, c := range q.chunks[:n] {
		dst = append(dst, c)
		q.size -= c.w - c.r
	}
	q.shift(n)
	return dst
}

// shift removes the first n chunks; an empty queue holds no memory.
func (q *queue) shift(n int) {
	if n == len(q.chunks) {
		q.chunks = nil
		return
	}
	left := copy(q.chunks, q.chunks[n:])
	clear(q.chunks[left:])
	q.chunks = q.chunks[:left]
}

// drop discards everything.
func (q *queue) drop() {
	for _, c := range q.chunks {
		buffer.Put(c.buf)
	}
	*q = queue{}
}
