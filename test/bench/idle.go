package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/ambit-mesh/ambit/test/bench/figure"
	"github.com/ambit-mesh/ambit/test/bench/stat"
	"github.com/ambit-mesh/ambit/test/netlab"
)

// settle is how long a process may take to give back what it only needed to set connections up.
const settle = 13 * time.Second

// idle measures what an open connection without traffic costs each side's proxy: resident anonymous memory with n connections
// open, less what the fresh process had, over n. The kernel's own memory for sockets is not in it, for the floor either.
func (r *rig) idle(ctx context.Context, o options) ([]figure.Row, error) {
	steps := []int{1000, 10000, 18000}
	if o.quick {
		steps = []int{200}
	}
	if !o.only.MatchString("cross-node/idle") {
		return nil, nil
	}
	type key struct {
		n    int
		side string
	}
	seen := map[key]map[figure.Path]stat.Series{}
	for range o.runs {
		for _, path := range []figure.Path{figure.Floor, figure.Ambit} {
			sides, err := r.freshSides(ctx, path)
			if err != nil {
				return nil, err
			}
			bytes, err := r.hold(ctx, path, within(steps, path), sides)
			if err != nil {
				return nil, fmt.Errorf("idle connections on %s: %w", path, err)
			}
			for i, n := range within(steps, path) {
				for side, per := range bytes[i] {
					k := key{n, side}
					if seen[k] == nil {
						seen[k] = map[figure.Path]stat.Series{}
					}
					seen[k][path] = append(seen[k][path], per)
				}
			}
		}
	}
	var rows []figure.Row
	for _, n := range steps {
		for _, side := range []string{"outbound", "inbound"} {
			row := figure.NewRow("idle/"+strconv.Itoa(n)+"-connections", figure.CrossNode, side+"_kib", seen[key{n, side}])
			row.Print(os.Stdout)
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// within leaves out what a proxy cannot hold: the floor has two files for each connection, and a process has 20,000.
func within(steps []int, path figure.Path) []int {
	if path == figure.Floor {
		return slices.DeleteFunc(slices.Clone(steps), func(n int) bool { return n > 9000 })
	}
	return steps
}

// freshSides returns the pids of newly started proxies of both sides.
func (r *rig) freshSides(ctx context.Context, path figure.Path) (map[string]int, error) {
	sides := map[string]int{}
	for side, node := range map[string]string{"outbound": "n1", "inbound": "n2"} {
		name, err := r.freshProxy(ctx, path, side, node)
		if err != nil {
			return nil, fmt.Errorf("fresh proxy of %s on %s: %w", path, node, err)
		}
		p, err := r.lab.Process(name)
		if err != nil {
			return nil, err
		}
		sides[side] = p.PID
	}
	return sides, nil
}

// hold opens connections step by step and returns, for each step, KiB a connection for each side.
func (r *rig) hold(ctx context.Context, path figure.Path, steps []int, sides map[string]int) ([]map[string]float64, error) {
	base := map[string]int64{}
	if err := readAll(sides, base); err != nil {
		return nil, err
	}
	var seen []map[string]float64
	open := 0
	for _, n := range steps {
		release, err := r.open(ctx, path, n-open)
		if err != nil {
			return nil, err
		}
		defer release()
		open = n
		select {
		case <-time.After(settle):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		now, per := map[string]int64{}, map[string]float64{}
		if err := readAll(sides, now); err != nil {
			return nil, err
		}
		for side := range sides {
			per[side] = float64(now[side]-base[side]) / 1024 / float64(n)
		}
		seen = append(seen, per)
	}
	return seen, nil
}

func readAll(sides map[string]int, into map[string]int64) error {
	for side, pid := range sides {
		m, err := stat.Memory(pid)
		if err != nil {
			return err
		}
		into[side] = m
	}
	return nil
}

// open holds n more connections until release is called, and returns when each has carried a message. Client and rig meet in real
// pipes: the client's end is seen at once, whoever else still waits.
func (r *rig) open(ctx context.Context, path figure.Path, n int) (release func(), err error) {
	w := r.way[path][figure.CrossNode]
	stdin, hold, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	lines, stdout, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, stdin.Close(), hold.Close())
	}
	ended := make(chan error, 1)
	go func() {
		code, err := r.lab.ExecIO(ctx, netlab.Spec{Pod: w.client, Argv: []string{r.self, "idle", w.host, strconv.Itoa(n)}}, stdin, stdout, os.Stderr)
		if err == nil && code != 0 {
			err = fmt.Errorf("client ended with status %d", code)
		}
		stdin.Close()
		stdout.Close()
		ended <- err
	}()
	release = func() {
		hold.Close()
		<-ended
		lines.Close()
	}
	if line, err := bufio.NewReader(lines).ReadString('\n'); err != nil || line != "ready\n" {
		hold.Close()
		return nil, fmt.Errorf("%d connections: got %q: %w", n, line, errors.Join(<-ended, lines.Close()))
	}
	return release, nil
}
