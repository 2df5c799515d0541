package load

import (
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Requests keeps one request under way on each of conns connections for d: the rate is what the path gives.
func Requests(host string, conns int, d time.Duration) (Result, error) {
	return onConns(host, conns, func(c net.Conn, _ int) ([]time.Duration, error) {
		var seen []time.Duration
		buf := make([]byte, MessageSize)
		for end := time.Now().Add(d); ; {
			start := time.Now()
			if start.After(end) {
				return seen, nil
			}
			if err := exchange(c, buf); err != nil {
				return seen, err
			}
			seen = append(seen, time.Since(start))
		}
	})
}

// Rate sends rate requests a second, spread evenly over conns connections, for d. A latency counts from the moment at which
// the request was due, so that a stall shows in every request that it held up.
func Rate(host string, conns, rate int, d time.Duration) (Result, error) {
	gap := time.Second * time.Duration(conns) / time.Duration(rate)
	return onConns(host, conns, func(c net.Conn, i int) ([]time.Duration, error) {
		var seen []time.Duration
		buf := make([]byte, MessageSize)
		due := time.Now().Add(gap * time.Duration(i) / time.Duration(conns))
		for end := due.Add(d); due.Before(end); due = due.Add(gap) {
			pace(due)
			if err := exchange(c, buf); err != nil {
				return seen, err
			}
			seen = append(seen, time.Since(due))
		}
		return seen, nil
	})
}

// pace returns at due, or at once when that is past. Go's own timers wake with the poller, a millisecond late or so, which would
// be most of what is measured; the kernel's sleep is late by its timer slack, some 50 microseconds.
func pace(due time.Time) {
	if left := time.Until(due); left > 0 {
		ts := unix.NsecToTimespec(left.Nanoseconds())
		_ = unix.Nanosleep(&ts, nil) // an early end by a signal only makes one request early
	}
}

func onConns(host string, conns int, run func(net.Conn, int) ([]time.Duration, error)) (Result, error) {
	open := make([]*net.TCPConn, conns)
	for i := range open {
		c, err := dial(net.JoinHostPort(host, strconv.Itoa(EchoPort)))
		if err != nil {
			return Result{}, err
		}
		defer c.Close()
		if err := exchange(c, make([]byte, MessageSize)); err != nil { // warm
			return Result{}, err
		}
		open[i] = c
	}
	var (
		mu    sync.Mutex
		all   []time.Duration
		first error
		wg    sync.WaitGroup
	)
	start := time.Now()
	for i, c := range open {
		wg.Go(func() {
			seen, err := run(c, i)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, seen...)
			if first == nil {
				first = err
			}
		})
	}
	wg.Wait()
	r := Result{Ops: int64(len(all)), Elapsed: time.Since(start)}
	r.percentiles(all)
	return r, first
}

// Connections makes a connection, exchanges one message and closes, again and again, at the given concurrency for d.
func Connections(host string, concurrency int, d time.Duration) (Result, error) {
	addr := net.JoinHostPort(host, strconv.Itoa(EchoPort))
	var done, failed atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	end := start.Add(d)
	for range concurrency {
		wg.Go(func() {
			buf := make([]byte, MessageSize)
			for time.Now().Before(end) {
				if err := once(addr, buf); err != nil {
					failed.Add(1)
				} else {
					done.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return Result{Ops: done.Load(), Failed: failed.Load(), Elapsed: time.Since(start)}, nil
}

func once(addr string, buf []byte) error {
	c, err := dial(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	return exchange(c, buf)
}
