package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"
)

// service is what the load balancer reads of a Service.
type service struct {
	Metadata struct {
		Namespace, Name string
	}
	Spec struct {
		Type string
	}
	Status struct {
		LoadBalancer struct {
			Ingress []struct{ IP string }
		}
	}
}

// address that a Service has.
func (s service) address() string {
	for _, i := range s.Status.LoadBalancer.Ingress {
		return i.IP
	}
	return ""
}

// assign gives an address to each Service of type LoadBalancer that has none: the first that no other Service has. Nil
// means there is no more. It is called with all Services, so what was deleted is free again.
func assign(all []service, address func(i int) string) (given map[*service]string, err error) {
	taken := map[string]bool{}
	for _, s := range all {
		taken[s.address()] = true
	}
	given = map[*service]string{}
	for i := range all {
		s := &all[i]
		if s.Spec.Type != "LoadBalancer" || s.address() != "" {
			continue
		}
		for n := 1; n < 255 && given[s] == ""; n++ {
			if a := address(n); !taken[a] {
				given[s], taken[a] = a, true
			}
		}
		if given[s] == "" {
			err = errors.Join(err, fmt.Errorf("no address left for service %s/%s", s.Metadata.Namespace, s.Metadata.Name))
		}
	}
	return given, err
}

// balance is the cloud of a cluster that has none: it gives Services addresses, which the machine routes to a node, whose
// kube-proxy does the rest. It asks twice a second rather than watching, which is simpler and costs a test cluster nothing.
func (c *Cluster) balance(ctx context.Context) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	for {
		if err := c.balanceOnce(ctx, client); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func (c *Cluster) balanceOnce(ctx context.Context, client *http.Client) error {
	var list struct{ Items []service }
	if err := c.call(ctx, client, http.MethodGet, "/api/v1/services", nil, &list); err != nil {
		return err
	}
	given, failed := assign(list.Items, c.balancerAddress)
	for s, address := range given {
		patch := fmt.Appendf(nil, `{"status": {"loadBalancer": {"ingress": [{"ip": %q}]}}}`, address)
		path := fmt.Sprintf("/api/v1/namespaces/%s/services/%s/status", s.Metadata.Namespace, s.Metadata.Name)
		failed = errors.Join(failed, c.call(ctx, client, http.MethodPatch, path, patch, nil))
	}
	return failed
}

// call speaks to the API server.
func (c *Control) call(ctx context.Context, client *http.Client, method, path string, body []byte, answer any) error {
	req, err := http.NewRequestWithContext(ctx, method, c.server()+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	if answer == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(answer)
}
