package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ambit-mesh/ambit/controller/auth"
	"github.com/ambit-mesh/ambit/test/bench/controller/apiserver"
	"github.com/ambit-mesh/ambit/test/bench/controller/fleet"
	"github.com/ambit-mesh/ambit/test/bench/controller/synth"
)

// rig is a controller and a fleet of clients, each a process of its own.
type rig struct {
	cluster    synth.Cluster
	controller *child
	fleet      *child
	ready      time.Duration     // from the start of the process to /ready
	made       int               // changes
	prefix     string            // of this rig's revisions
	server     *apiserver.Server // that changes are made in; nil for a synthetic source
	changing   errgroup.Group
}

// readyTime bounds the start of a controller.
const readyTime = 2 * time.Minute

func start(ctx context.Context, dir string, c synth.Cluster, server *apiserver.Server, kubeconfig string) (r *rig, err error) {
	if _, err := auth.CreateKey(filepath.Join(dir, "key")); err != nil {
		return nil, err
	}
	r = &rig{cluster: c, server: server, prefix: fmt.Sprintf("c%x-", time.Now().UnixMilli())}
	begin := time.Now()
	if r.controller, err = spawn(ctx, "serve", dir, strconv.Itoa(c.Pods), strconv.Itoa(c.Nodes), kubeconfig); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.stop())
		}
	}()
	var line served
	if err := r.controller.dec.Decode(&line); err != nil || line.Address == nil {
		return r, fmt.Errorf("controller did not say where it listens: %w", err)
	}
	if err := isReady(ctx, "http://"+line.Address.HTTP+"/ready"); err != nil {
		return r, err
	}
	r.ready = time.Since(begin)
	r.fleet, err = spawn(ctx, "fleet", dir, line.Address.GRPC, strconv.Itoa(c.Addresses()), strconv.Itoa(synth.Policies))
	return r, err
}

func isReady(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			code := resp.StatusCode
			if err := resp.Body.Close(); err != nil {
				return err
			}
			if code == http.StatusOK {
				return nil
			}
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return fmt.Errorf("controller is not ready: %w", err)
		}
	}
}

func (r *rig) stop() error {
	var errs []error
	for _, c := range []*child{r.fleet, r.controller} {
		if c != nil {
			errs = append(errs, c.stop())
		}
	}
	return errors.Join(errs...)
}

// cpu is the processor seconds the controller has used.
func (r *rig) cpu() (float64, error) {
	if err := r.controller.enc.Encode(served{Usage: &usage{}}); err != nil {
		return 0, err
	}
	var line served
	if err := r.controller.dec.Decode(&line); err != nil || line.Usage == nil {
		return 0, fmt.Errorf("controller did not say what it has used: %w", err)
	}
	return line.Usage.CPU, nil
}

// change changes the next pod, and says which revision it has now and since when. Neighbours in time are not the same pod.
func (r *rig) change(ctx context.Context) (revision string, at int64, err error) {
	r.made++
	revision = r.prefix + strconv.Itoa(r.made)
	pod := r.made * 7919 % r.cluster.Pods
	at = fleet.Now()
	if r.server != nil { // the answer is not waited for: changes are to be even
		namespace, name := r.cluster.PodName(pod)
		r.changing.Go(func() error { return r.server.Change(ctx, namespace, name, revision) })
		return revision, at, nil
	}
	err = r.controller.enc.Encode(served{Change: &podChange{Pod: pod, Revision: revision}})
	return revision, at, err
}

// latencies are times in milliseconds, in order.
type latencies []float64

func (l latencies) quantile(q float64) float64 {
	if len(l) == 0 {
		return 0
	}
	return l[min(len(l)-1, int(q*float64(len(l))))]
}

// stream makes changes at even times and returns how long each took to the last client.
func (r *rig) stream(ctx context.Context, count int, gap time.Duration) (latencies, error) {
	var revisions []string
	var sent []int64
	begin := time.Now()
	for i := range count {
		if err := pause(ctx, time.Until(begin.Add(time.Duration(i)*gap))); err != nil {
			return nil, err
		}
		rev, at, err := r.change(ctx)
		if err != nil {
			return nil, err
		}
		revisions, sent = append(revisions, rev), append(sent, at)
	}
	if err := r.changing.Wait(); err != nil {
		return nil, err
	}
	answer, err := r.tell(fleet.Command{Arrived: revisions})
	if err != nil {
		return nil, err
	}
	out := make(latencies, count)
	for i, at := range answer.Arrived {
		out[i] = float64(at-sent[i]) / 1e6
	}
	slices.Sort(out)
	return out, nil
}

func (r *rig) connect(n int, known bool) (fleet.Connected, error) {
	a, err := r.tell(fleet.Command{Connect: &fleet.Connect{Clients: n, Known: known}})
	return a.Connected, err
}

// gather connects n clients that know everything, a crowd at a time.
func (r *rig) gather(n int) error {
	for ; n > 0; n -= crowd {
		if _, err := r.connect(min(n, crowd), true); err != nil {
			return err
		}
	}
	return nil
}

// close ends all clients and waits until the controller has seen them go.
func (r *rig) close(ctx context.Context) error {
	if _, err := r.tell(fleet.Command{Close: true}); err != nil {
		return err
	}
	return pause(ctx, calm)
}

func (r *rig) bytes() (int64, error) {
	a, err := r.tell(fleet.Command{Bytes: true})
	return a.Bytes, err
}

func (r *rig) tell(cmd fleet.Command) (a fleet.Answer, err error) {
	if err := r.fleet.enc.Encode(cmd); err != nil {
		return a, fmt.Errorf("command to the clients: %w", err)
	}
	if err := r.fleet.dec.Decode(&a); err != nil {
		return a, fmt.Errorf("answer of the clients: %w", err)
	}
	if a.Error != "" {
		return a, errors.New(a.Error)
	}
	return a, nil
}
