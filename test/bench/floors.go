package main

import (
	"context"
	"net"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/ambit-mesh/ambit/test/bench/floor"
	"github.com/ambit-mesh/ambit/test/bench/load"
)

// secured is what is added to a port of the server to get the floor's TLS port for it.
const secured = 10000

var ports = []int{load.SinkPort, load.SourcePort, load.EchoPort}

// floorOut plays the client's ztunnel, in the client's pod: clients connect to its ports on loopback.
func floorOut(ctx context.Context, peer string) error {
	conf, err := floor.Config()
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, port := range ports {
		g.Go(func() error { return floor.Out(ctx, at("127.0.0.1", port), at(peer, port+secured), conf) })
	}
	return g.Wait()
}

// floorIn plays the server's ztunnel, in the server's pod.
func floorIn(ctx context.Context) error {
	conf, err := floor.Config()
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, port := range ports {
		g.Go(func() error { return floor.In(ctx, at("", port+secured), at("127.0.0.1", port), conf) })
	}
	return g.Wait()
}

func at(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }
