// Package configdump answers what a ztunnel knew: it reads a config dump from a file, standard input or a ztunnel's admin
// port. The commands that explain use it. It interprets nothing. Functions only, no state.
package configdump

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/ambit-mesh/ambit/ztunnel/admin"
	"github.com/ambit-mesh/ambit/ztunnel/state/dump"
)

const (
	// Default is where a ztunnel's admin port is, from within its pod or through a port-forward.
	Default = "http://127.0.0.1:15000"
	// maxBytes bounds a dump: a hundred thousand workloads are about a tenth of it.
	maxBytes = 1 << 30
	timeout  = 60 * time.Second
)

// Dump is a whole config dump.
type Dump struct {
	dump.Document
	Certificates  []admin.Certificate  `json:"certificates"`
	WorkloadState map[string]admin.Pod `json:"workloadState"`
	Version       admin.Version        `json:"version"`
}

// Load reads a dump from a URL of an admin port, from a file, or from in where the name is "-".
func Load(ctx context.Context, from string, in io.Reader) (*Dump, error) {
	text, err := Read(ctx, from, "/config_dump", in)
	if err != nil {
		return nil, fmt.Errorf("config dump: %w", err)
	}
	var d Dump
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, fmt.Errorf("config dump of %s: %w", from, err)
	}
	return &d, nil
}

// Read reads a document from a URL, whose path is the given one if it has none, from a file, or from in where the name is "-".
func Read(ctx context.Context, from, path string, in io.Reader) ([]byte, error) {
	switch {
	case from == "-":
		return limited(in)
	case strings.HasPrefix(from, "http://"), strings.HasPrefix(from, "https://"):
		return get(ctx, from, path)
	default:
		f, err := os.Open(from)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return limited(f)
	}
}

func get(ctx context.Context, from, path string) ([]byte, error) {
	u, err := url.Parse(from)
	if err != nil {
		return nil, err
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = path
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", u, resp.Status)
	}
	return limited(resp.Body)
}

func limited(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err == nil && len(text) > maxBytes {
		err = fmt.Errorf("more than %d bytes", maxBytes)
	}
	return text, err
}
