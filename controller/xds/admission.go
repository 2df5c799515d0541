package xds

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ambit-mesh/ambit/controller/auth"
)

const (
	// maxClients bounds the streams of the server, clientsPerNode those of one account on one node: a proxy, its successor, and
	// connections that have not been noticed to be dead.
	maxClients, clientsPerNode = 10_000, 16
	// atOnce is how many clients may be telling what they hold, or be taking their first answers, at the same time; others wait
	// for their turn. It bounds the memory of a whole cluster that connects at once.
	atOnce = 8
	// turnTakes is how long a client's turn lasts at most, so that slow ones do not keep others waiting.
	turnTakes = 2 * time.Second
)

// place counts a stream, from before it waits for its turn if it is known where it comes from: no node may fill the queue that all
// others wait in. leave ends it.
func (s *Server) place(caller auth.Caller, node string) (leave func(), err error) {
	key := caller.Account() + "@" + node
	s.mu.Lock()
	switch {
	case s.places >= maxClients:
		err = status.Errorf(codes.ResourceExhausted, "more than %d clients", maxClients)
	case s.perNode[key] >= clientsPerNode:
		err = status.Errorf(codes.ResourceExhausted, "more than %d clients of %s on node %q", clientsPerNode, caller.Account(), node)
	default:
		s.places++
		s.perNode[key]++
	}
	s.mu.Unlock()
	if err != nil {
		s.refuse("too_many_clients", caller, err)
		return nil, err
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.places--
		if s.perNode[key]--; s.perNode[key] == 0 {
			delete(s.perNode, key)
		}
	}, nil
}

// turn waits until there is something to tell, and few enough clients are telling what they hold: that is kept until they are
// answered. done ends the turn; it may be called more than once.
func (s *Server) turn(ctx context.Context) (done func(), err error) {
	if changed, ready := s.cfg.Table.watch(); !ready {
		select {
		case <-changed:
		case <-s.leaving:
			return nil, errShuttingDown
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	}
	select {
	case s.turns <- struct{}{}:
	case <-s.leaving:
		return nil, errShuttingDown
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	var once sync.Once
	end := func() { once.Do(func() { <-s.turns }) }
	timer := time.AfterFunc(turnTakes, end)
	return func() { timer.Stop(); end() }, nil
}
