package webhook

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

const (
	// bodyTime bounds how long a body may take to come. The API server waits 10 s for an answer unless told otherwise.
	bodyTime = 10 * time.Second
	// maxBodies bounds, in bytes, what is held of all bodies at a time. One that does not fit any more is answered 503.
	maxBodies = 64 << 20
	// piece is what is read at a time.
	piece = 32 << 10
)

var errTooManyBodies = fmt.Errorf("reviews of more than %d bytes at once", maxBodies)

// bodies reads requests' bodies within a budget that they share: a body counts by what has come of it, so one that comes slowly
// holds little. Safe for concurrent use.
type bodies struct {
	within time.Duration
	left   atomic.Int64 // bytes that may be held yet
}

// read gives the body, or the HTTP status that says why not. done gives back what the body holds; it is to be called in any case.
func (b *bodies) read(w http.ResponseWriter, r *http.Request) (body []byte, done func(), status int, err error) {
	var held int64
	done = func() { b.left.Add(held) }
	conn := http.NewResponseController(w)
	_ = conn.SetReadDeadline(time.Now().Add(b.within)) // fails where no connection is
	from := http.MaxBytesReader(w, r.Body, maxBody)
	for {
		if len(body)+piece > cap(body) {
			size := int64(max(piece, 2*cap(body)))
			if b.left.Add(-size) < 0 {
				b.left.Add(size)
				return nil, done, http.StatusServiceUnavailable, errTooManyBodies
			}
			held += size
			body = append(make([]byte, 0, size), body...)
		}
		n, err := from.Read(body[len(body) : len(body)+piece])
		body = body[:len(body)+n]
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			_ = conn.SetReadDeadline(time.Time{})
			return body, done, 0, nil
		case errors.As(err, new(*http.MaxBytesError)):
			return nil, done, http.StatusRequestEntityTooLarge, fmt.Errorf("review of more than %d bytes", maxBody)
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, done, http.StatusRequestTimeout, fmt.Errorf("review did not come within %s", b.within)
		default:
			return nil, done, http.StatusBadRequest, fmt.Errorf("review: %w", err)
		}
	}
}
