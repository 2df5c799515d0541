package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/ambit-mesh/ambit/test/bench/controller/apiserver"
	"github.com/ambit-mesh/ambit/test/bench/controller/synth"
)

// options are what is measured, and how often.
type options struct {
	pods, clients []int
	runs          int
	window        time.Duration
	kubeconfig    string // "" for a synthetic source
	filled        bool   // the API server has the cluster
	out           string
}

const (
	// crowd is how many clients sync and reconnect at once.
	crowd = 50
	// interval is the time between two of an even stream of changes: 20 a second.
	interval = 50 * time.Millisecond
	// loneChanges are made one by one, with time between them for everything to become quiet.
	loneChanges, loneGap = 10, 250 * time.Millisecond
	// alone is how many changes are made without a client.
	alone = 200
	// fillWithin bounds how long an API server may take to store the cluster.
	fillWithin = 15 * time.Minute
	// calm is how long after an event the process's memory and processor time are read.
	calm = time.Second
)

// nodesFor is the cluster of a number of pods: one node per hundred, but never fewer than twenty.
func nodesFor(pods int) synth.Cluster { return synth.Cluster{Pods: pods, Nodes: max(20, pods/100)} }

// measure takes the sizes in turns, so that what drifts on the machine drifts for all of them.
func measure(ctx context.Context, o options) error {
	rep := newReport(o)
	server, err := fill(ctx, o)
	if err != nil {
		return err
	}
	for run := range o.runs {
		for _, pods := range o.pods {
			begin := time.Now()
			if err := one(ctx, o, nodesFor(pods), server, rep); err != nil {
				return errors.Join(fmt.Errorf("run %d with %d pods: %w", run+1, pods, err), rep.write(o.out))
			}
			fmt.Fprintf(os.Stderr, "run %d of %d: %d pods measured in %.0f s\n", run+1, o.runs, pods, time.Since(begin).Seconds())
		}
	}
	if o.runs == 0 {
		return nil
	}
	rep.print(os.Stdout)
	return rep.write(o.out)
}

// fill writes the cluster to the API server, if there is one to use.
func fill(ctx context.Context, o options) (*apiserver.Server, error) {
	if o.kubeconfig == "" {
		return nil, nil
	}
	server, err := apiserver.Connect(o.kubeconfig)
	if err != nil {
		return nil, err
	}
	if o.filled {
		return server, nil
	}
	ctx, cancel := context.WithTimeout(ctx, fillWithin)
	defer cancel()
	begin := time.Now()
	if err := server.Write(ctx, nodesFor(o.pods[0])); err != nil {
		return nil, fmt.Errorf("fill the API server: %w", err)
	}
	fmt.Fprintf(os.Stderr, "API server filled in %.0f s\n", time.Since(begin).Seconds())
	return server, nil
}

// one measures everything once at one size.
func one(ctx context.Context, o options, c synth.Cluster, server *apiserver.Server, rep *report) (err error) {
	dir, err := os.MkdirTemp("", "ambit-bench-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r, err := start(ctx, dir, c, server, o.kubeconfig)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	note := func(figure, unit string, v float64) { rep.add(c.Pods, figure, unit, v) }
	note("start/ready", "s", r.ready.Seconds())
	if err := pause(ctx, calm); err != nil {
		return err
	}
	now, peak, err := r.controller.memory()
	if err != nil {
		return err
	}
	note("start/resident", "MiB", mib(now))
	note("start/peak", "MiB", mib(peak))
	cpu, err := r.quietChanges(ctx)
	if err != nil {
		return err
	}
	note("change/cpu/0-clients", "ms", cpu*1e3)
	if err := r.crowdSyncs(ctx, note); err != nil {
		return fmt.Errorf("%d clients at once: %w", crowd, err)
	}
	have := crowd
	for _, n := range sortedFrom(o.clients, crowd) {
		if n < have {
			if err := r.close(ctx); err != nil {
				return err
			}
			have = 0
		}
		if n > have {
			if err := r.gather(n - have); err != nil {
				return fmt.Errorf("%d clients: %w", n, err)
			}
			have = n
		}
		if err := r.changes(ctx, o.window, n, note); err != nil {
			return fmt.Errorf("changes with %d clients: %w", n, err)
		}
		if n == crowd {
			if err := r.crowdReconnects(ctx, note); err != nil {
				return fmt.Errorf("%d clients reconnect: %w", crowd, err)
			}
		}
	}
	now, peak, err = r.controller.memory()
	if err != nil {
		return err
	}
	note("end/resident", "MiB", mib(now))
	note("end/peak", "MiB", mib(peak))
	return nil
}

// sortedFrom puts the number of clients that is connected already first, then the others as they grow.
func sortedFrom(all []int, first int) []int {
	out := []int{}
	for _, n := range all {
		if n == first {
			out = append([]int{n}, out...)
		} else {
			out = append(out, n)
		}
	}
	return out
}

// quietChanges is the processor seconds of one change that nobody listens to.
func (r *rig) quietChanges(ctx context.Context) (float64, error) {
	before, err := r.cpu()
	if err != nil {
		return 0, err
	}
	for range alone {
		if _, _, err := r.change(ctx); err != nil {
			return 0, err
		}
		if err := pause(ctx, 12*time.Millisecond); err != nil { // longer than the controller's pace: each is handled alone
			return 0, err
		}
	}
	if err := r.changing.Wait(); err != nil {
		return 0, err
	}
	after, err := r.cpu()
	return (after - before) / alone, err
}

func (r *rig) crowdSyncs(ctx context.Context, note func(figure, unit string, v float64)) error {
	before, _, err := r.controller.memory()
	if err != nil {
		return err
	}
	if err := r.controller.resetPeak(); err != nil {
		return err
	}
	cpu, err := r.cpu()
	if err != nil {
		return err
	}
	got, err := r.connect(crowd, false)
	if err != nil {
		return err
	}
	after, err := r.cpu()
	if err != nil {
		return err
	}
	_, peak, err := r.controller.memory()
	if err != nil {
		return err
	}
	note("sync/50-clients/took", "s", got.Took.Seconds())
	note("sync/50-clients/added", "MiB", mib(peak-before))
	note("sync/50-clients/cpu", "s", after-cpu)
	note("sync/per-client", "MiB", mib(got.Bytes/crowd))
	return pause(ctx, calm)
}

func (r *rig) crowdReconnects(ctx context.Context, note func(figure, unit string, v float64)) error {
	if err := r.close(ctx); err != nil {
		return err
	}
	cpu, err := r.cpu()
	if err != nil {
		return err
	}
	got, err := r.connect(crowd, true)
	if err != nil {
		return err
	}
	if err := pause(ctx, calm/4); err != nil {
		return err
	}
	after, err := r.cpu()
	if err != nil {
		return err
	}
	note("reconnect/50-clients/took", "s", got.Took.Seconds())
	note("reconnect/cpu-per-client", "ms", (after-cpu)/crowd*1e3)
	note("reconnect/bytes-per-client", "bytes", float64(got.Bytes)/crowd)
	return nil
}

// changes measures an even stream of changes, then lone ones, with n clients connected.
func (r *rig) changes(ctx context.Context, window time.Duration, n int, note func(figure, unit string, v float64)) error {
	name := "change/" + plural(n)
	count := int(window / interval)
	bytes, err := r.bytes()
	if err != nil {
		return err
	}
	cpu, err := r.cpu()
	if err != nil {
		return err
	}
	even, err := r.stream(ctx, count, interval)
	if err != nil {
		return err
	}
	cpuAfter, err := r.cpu()
	if err != nil {
		return err
	}
	bytesAfter, err := r.bytes()
	if err != nil {
		return err
	}
	note(name+"/20-per-s/p50", "ms", even.quantile(.50))
	note(name+"/20-per-s/p99", "ms", even.quantile(.99))
	note(name+"/20-per-s/max", "ms", even.quantile(1))
	note("change/cpu/"+plural(n), "ms", (cpuAfter-cpu)/float64(count)*1e3)
	note(name+"/bytes-per-client", "bytes", float64(bytesAfter-bytes)/float64(count*n))
	lone, err := r.stream(ctx, loneChanges, loneGap)
	if err != nil {
		return err
	}
	note(name+"/lone/p50", "ms", lone.quantile(.50))
	note(name+"/lone/max", "ms", lone.quantile(1))
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

func plural(n int) string {
	if n == 1 {
		return "1-client"
	}
	return strconv.Itoa(n) + "-clients"
}
