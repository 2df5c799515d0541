package load

import (
	"context"
	"io"
	"testing"
	"time"
)

// Every generator against the real server, small: the figures of a benchmark are worth what these count.
func TestGeneratorsCountWhatTheyCarry(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	const host = "127.0.0.1"
	for { // the server listens soon
		c, err := dial("127.0.0.1:7003")
		if err == nil {
			c.Close()
			break
		}
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
	const total = 8 << 20
	for name, f := range map[string]func(string, int, int64) (Result, error){"upload": Upload, "download": Download} {
		if r, err := f(host, 4, total); err != nil || r.Bytes != total {
			t.Errorf("%s: %d bytes, error %v", name, r.Bytes, err)
		}
	}
	if r, err := Requests(host, 3, 50*time.Millisecond); err != nil || r.Ops == 0 || r.P50 <= 0 || r.P99 < r.P50 {
		t.Errorf("requests: %+v, error %v", r, err)
	}
	if r, err := Rate(host, 4, 400, 100*time.Millisecond); err != nil || r.Ops != 40 {
		t.Errorf("rate: %+v, error %v", r, err)
	}
	if r, err := Connections(host, 2, 50*time.Millisecond); err != nil || r.Ops == 0 || r.Failed != 0 {
		t.Errorf("connections: %+v, error %v", r, err)
	}
	hold, release := io.Pipe()
	if err := Idle(host, 50, func() { release.Close() }, hold); err != nil {
		t.Errorf("idle: %v", err)
	}
}
