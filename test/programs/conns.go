package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ambit-mesh/ambit/test/programs/result"
)

// conns makes many connections to echo servers, in turn to each address given. With --together all are opened first, each
// with one exchange, then each is used once more and closed; otherwise each connects, exchanges one line and closes.
func conns(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("conns", flag.ContinueOnError)
	total := flags.Int("total", 100, "connections")
	width := flags.Int("width", 16, "workers that connect at once")
	together := flags.Bool("together", false, "all open at once")
	hold := flags.Duration("hold", 0, "with --together: idle for this long in between")
	gap := flags.Duration("gap", 0, "wait after each connection")
	timeout := flags.Duration("timeout", 5*time.Second, "limit of each step")
	if err := flags.Parse(args); err != nil {
		return err
	}
	c := counter{out: result.Batch{Errors: map[string]int{}, By: map[string]int{}}}
	begin := time.Now()
	jobs := make(chan int)
	opened := make(chan struct{})
	var workers, open, held sync.WaitGroup
	open.Add(*total)
	for range *width {
		workers.Go(func() {
			for i := range jobs {
				addr := flags.Arg(i % flags.NArg())
				start := time.Now()
				conn, who, err := begun(ctx, addr, *timeout)
				c.opened(err == nil)
				open.Done()
				if err != nil || !*together {
					c.done(start, who, err)
					if err == nil {
						conn.end()
						c.closed()
					}
					wait(ctx, *gap)
					continue
				}
				held.Go(func() {
					defer c.closed()
					defer conn.end()
					<-opened
					wait(ctx, *hold)
					c.done(start, who, conn.again(*timeout))
				})
			}
		})
	}
	for i := range *total {
		jobs <- i
	}
	close(jobs)
	open.Wait()
	close(opened)
	workers.Wait()
	held.Wait()
	c.out.Seconds = time.Since(begin).Seconds()
	if len(c.times) > 0 {
		slices.Sort(c.times)
		c.out.P50, c.out.Max = c.times[len(c.times)/2], c.times[len(c.times)-1]
	}
	return show(c.out)
}

func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// counter gathers what the workers saw.
type counter struct {
	mu    sync.Mutex
	out   result.Batch
	now   int
	times []time.Duration
}

func (c *counter) opened(ok bool) {
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now++
	c.out.Peak = max(c.out.Peak, c.now)
}

func (c *counter) closed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now--
}

func (c *counter) done(start time.Time, who string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.out.Failed++
		c.out.Errors[reason(err)]++
		return
	}
	c.out.OK++
	c.out.By[who]++
	c.times = append(c.times, time.Since(start))
}

// session is one open connection to an echo server.
type session struct {
	conn interface {
		Write([]byte) (int, error)
		SetDeadline(time.Time) error
		Close() error
	}
	lines *bufio.Reader
}

// begun connects and does the first exchange; who is the server's name for itself.
func begun(ctx context.Context, addr string, timeout time.Duration) (s *session, who string, err error) {
	conn, err := dial(ctx, addr, timeout)
	if err != nil {
		return nil, "", err
	}
	s = &session{conn: conn, lines: bufio.NewReaderSize(conn, 256)}
	conn.SetDeadline(time.Now().Add(timeout))
	if _, err = fmt.Fprintln(conn, "x"); err == nil {
		who, err = s.lines.ReadString('\n')
	}
	if err != nil {
		conn.Close()
		return nil, "", err
	}
	who, _, _ = strings.Cut(who, " ")
	return s, who, nil
}

func (s *session) again(timeout time.Duration) error {
	s.conn.SetDeadline(time.Now().Add(timeout))
	if _, err := fmt.Fprintln(s.conn, "again"); err != nil {
		return err
	}
	line, err := s.lines.ReadString('\n')
	if err == nil && line != "again\n" {
		err = fmt.Errorf("a wrong answer")
	}
	return err
}

func (s *session) end() { s.conn.Close() }
