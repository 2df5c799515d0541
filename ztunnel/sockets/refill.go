package sockets

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ambit-mesh/ambit/agent/api"
)

// Bounds of asking for sockets.
const (
	maxRequests = 64 // open at a time
	maxBatch    = 64 // sockets a request; larger batches gain nothing (14 µs a socket from 8 on)
	retryPeriod = 500 * time.Millisecond
)

// answer is a Sockets message and its descriptors.
type answer struct {
	*api.Sockets
	fds api.Fds
}

// request is what an answer is to.
type request struct {
	stock *stock
	count int
}

// answered passes an answer on to refillStocks.
func (s *session) answered(m *api.Sockets, fds api.Fds) {
	select {
	case s.answers <- answer{m, fds}:
	default: // more answers than there can be requests
		s.log.Warn("agent sent sockets that nobody asked for")
		fds.Close()
	}
}

// refillStocks asks the agent for sockets whenever a stock runs low, until ctx ends. An error is a broken connection.
func (s *session) refillStocks(ctx context.Context) error {
	open := map[uint64]request{}
	var failed, line []*stock
	for _, st := range s.c.stocks() {
		st.forget()
		s.c.refill.add(st)
	}
	retry := time.NewTicker(retryPeriod)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case a := <-s.answers:
			r, ok := open[a.GetRequest()]
			if !ok {
				a.fds.Close()
				return fmt.Errorf("%w: sockets for request %d, which is not open", api.ErrProtocol, a.GetRequest())
			}
			delete(open, a.GetRequest())
			if !r.receive(a) {
				failed = append(failed, r.stock)
			}
		case <-s.c.refill.wake:
			line = append(line, s.c.refill.drain()...)
		case <-retry.C:
			for _, st := range failed {
				s.c.refill.add(st)
			}
			failed = nil
		}
		for len(line) > 0 && len(open) < maxRequests {
			r := request{line[0], line[0].want(maxBatch)}
			if r.count == 0 {
				line = line[1:]
				continue
			}
			seq, err := s.request(r)
			if err != nil {
				return err
			}
			open[seq] = r
		}
	}
}

func (s *session) request(r request) (uint64, error) {
	m := &api.SocketRequest{Uid: r.stock.uid, Kind: r.stock.kind, Count: uint32(r.count)}
	seq, err := s.conn.Send(&api.ToAgent{Message: &api.ToAgent_SocketRequest{SocketRequest: m}})
	if err != nil {
		return 0, fmt.Errorf("ask for sockets: %w", err)
	}
	return seq, nil
}

// receive puts an answer into stock and reports whether it brought sockets.
func (r request) receive(a answer) bool {
	var refused error
	if a.GetError() != "" {
		refused = errors.New(a.GetError())
		r.stock.metrics.failed.Inc()
	}
	if a.GetKind() != r.stock.kind || a.GetUid() != r.stock.uid { // never let a socket of another pod in
		a.fds.Close()
		r.stock.put(r.count, nil, fmt.Errorf("%w: %s sockets of pod %s in answer to a request for %s of %s",
			api.ErrProtocol, a.GetKind(), a.GetUid(), r.stock.kind, r.stock.uid))
		return false
	}
	r.stock.put(r.count, a.fds, refused)
	return refused == nil
}

// dropAnswers closes the descriptors that nobody will put into stock any more.
func (s *session) dropAnswers() {
	for {
		select {
		case a := <-s.answers:
			a.fds.Close()
		default:
			return
		}
	}
}
