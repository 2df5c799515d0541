package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/ambit-mesh/ambit/test/netlab"
	"github.com/ambit-mesh/ambit/test/programs/result"
)

// Check 10: certificates are replaced while connections are open and made.
func rotation() Check {
	return Check{ID: 10, Name: "certificates rotate under traffic", Steps: []Step{
		{"renewed with nothing dropped", func(ctx context.Context, w *World) (string, error) {
			return w.overMesh(ctx, "n2", 50, func() (string, error) { return w.rotate(ctx) })
		}},
	}}
}

func (w *World) rotate(ctx context.Context) (string, error) {
	if w.Mesh == nil {
		return "", errNoMesh
	}
	length := w.Mesh.CertTTL() + 5*time.Second // every certificate of the beginning has expired by then
	before, err := w.serials(ctx)
	if err != nil {
		return "", err
	}
	long := w.stream(ctx, w.client, w.storeAddr(echoPort), length)
	begin := time.Now()
	var short result.Batch
	for time.Since(begin) < length {
		batch, err := run[result.Batch](ctx, w, w.client, "conns", "--total", "50", "--width", "1", "--gap", "20ms", w.storeAddr(echoPort))
		if err != nil {
			return "", err
		}
		short.OK += batch.OK
		if batch.Failed > 0 {
			return "", fmt.Errorf("%d new connections failed after %s: %v", batch.Failed, time.Since(begin), batch.Errors)
		}
	}
	lived, err := long()
	if err != nil {
		return "", err
	}
	if lived.Closed {
		return "", fmt.Errorf("the long connection was closed after %s: %s", lived.End.Sub(lived.Start), lived.Error)
	}
	renewed := 0
	if err := netlab.Poll(ctx, time.Second, func() error {
		after, err := w.serials(ctx)
		if err != nil {
			return err
		}
		renewed = 0
		for identity, old := range before {
			now, ok := after[identity]
			switch {
			case !ok: // nobody with this identity is left
			case slices.Equal(old, now):
				return fmt.Errorf("the certificate of %s was not renewed", identity)
			default:
				renewed++
			}
		}
		return nil
	}); err != nil {
		return "", err
	}
	if renewed == 0 {
		return "", fmt.Errorf("no certificates in the ztunnels' dumps")
	}
	return fmt.Sprintf("in %s: %d certificates renewed, one connection with %d exchanges lived, %d new ones, none failed",
		length, renewed, lived.Exchanges, short.OK), nil
}

// serials reads the serial numbers of every certificate that the ztunnels hold, by node and identity.
func (w *World) serials(ctx context.Context) (map[string][]string, error) {
	out := map[string][]string{}
	for _, node := range []string{"n1", "n2"} {
		text, err := w.Mesh.ConfigDump(ctx, node)
		if err != nil {
			return nil, err
		}
		var dump struct {
			Certificates []struct {
				Identity  string `json:"identity"`
				CertChain []struct {
					SerialNumber string `json:"serialNumber"`
				} `json:"certChain"`
			} `json:"certificates"`
		}
		if err := json.Unmarshal([]byte(text), &dump); err != nil {
			return nil, fmt.Errorf("config dump of %s: %w", node, err)
		}
		for _, c := range dump.Certificates {
			for i, link := range c.CertChain {
				if i == 0 { // the leaf; what follows it belongs to the CA
					out[node+" "+c.Identity] = append(out[node+" "+c.Identity], link.SerialNumber)
				}
			}
		}
	}
	return out, nil
}
