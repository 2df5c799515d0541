package admin

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"time"

	"github.com/ambit-mesh/ambit/ztunnel/cert"
)

// Sources are the functions that /config_dump asks. Those that are nil show as empty.
type Sources struct {
	// State gives what marshals to a JSON object of "workloads", "services", "policies" and whatever else describes the
	// snapshot.
	State func() any
	// Certificates are of the certificate store.
	Certificates func() []cert.Status
	// Pods are those this ztunnel serves, by UID.
	Pods func() map[string]Pod
	// Version says what is running.
	Version Version
	// Config marshals to the process's settings, without secrets.
	Config any
}

// Version is the build.
type Version struct {
	Version      string `json:"version"`
	GitRevision  string `json:"gitRevision"`
	GoVersion    string `json:"goVersion"`
	BuildStatus  string `json:"buildStatus"`
	IstioVersion string `json:"istioVersion"` // the release we are compatible with
}

// Pod is one pod that this ztunnel serves.
type Pod struct {
	State       string      `json:"state"` // Up or Pending
	Connections Connections `json:"connections"`
	Info        PodInfo     `json:"info"`
}

// The states of a Pod.
const (
	Up      = "Up"
	Pending = "Pending"
)

// PodInfo says which pod it is.
type PodInfo struct {
	Name           string `json:"name"`
	Namespace      string `json:"namespace"`
	ServiceAccount string `json:"serviceAccount"`
}

// Connections are the live ones.
type Connections struct {
	Inbound  []Connection `json:"inbound"`
	Outbound []Connection `json:"outbound"`
}

// Connection is one live connection. Inbound, OriginalDst is the host that the client's ztunnel says was meant.
type Connection struct {
	Src         string  `json:"src"`
	OriginalDst *string `json:"originalDst"`
	ActualDst   string  `json:"actualDst"`
	Protocol    string  `json:"protocol"` // TCP, HBONE or DOUBLEHBONE
	// Plan, Policy, Reason and Snapshot are ours: what was decided about it.
	Plan     string `json:"plan,omitempty"`
	Policy   string `json:"policy,omitempty"`
	Reason   string `json:"reason,omitempty"`
	Snapshot uint64 `json:"snapshot,omitempty"`
	// Identity of the peer that TLS proved.
	Identity string `json:"identity,omitempty"`
}

// Certificate is one identity's, as istioctl reads it.
type Certificate struct {
	Identity  string     `json:"identity"`
	State     string     `json:"state"`
	CertChain []X509     `json:"certChain"`
	RootCerts []X509     `json:"rootCerts"`
	Renew     *time.Time `json:"renew,omitempty"`
}

// X509 is one certificate of a chain.
type X509 struct {
	PEM            string `json:"pem"` // base64 of the PEM text
	SerialNumber   string `json:"serialNumber"`
	ValidFrom      string `json:"validFrom"`
	ExpirationTime string `json:"expirationTime"`
}

// dump puts the document together. The parts of the state are raw so that a large mesh is marshalled once.
func (s Sources) dump() (map[string]json.RawMessage, error) {
	doc := map[string]json.RawMessage{}
	if s.State != nil {
		raw, err := json.Marshal(s.State())
		if err != nil {
			return nil, fmt.Errorf("state: %w", err)
		}
		if err := json.Unmarshal(raw, &doc); err != nil {
			return nil, fmt.Errorf("state: %w", err)
		}
	}
	own := map[string]any{"version": s.Version, "config": s.Config, "certificates": []Certificate{}, "workloadState": map[string]Pod{}}
	if s.Certificates != nil {
		own["certificates"] = certificates(s.Certificates())
	}
	if s.Pods != nil {
		own["workloadState"] = pods(s.Pods())
	}
	for name, value := range own {
		raw, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		doc[name] = raw
	}
	for _, list := range []string{"workloads", "services", "policies"} {
		if doc[list] == nil {
			doc[list] = json.RawMessage("[]")
		}
	}
	for _, object := range []string{"stagedServices", "staticConfig"} {
		if doc[object] == nil {
			doc[object] = json.RawMessage("{}")
		}
	}
	return doc, nil
}

// pods makes absent lists empty ones: istioctl expects arrays.
func pods(in map[string]Pod) map[string]Pod {
	out := maps.Clone(in)
	for uid, p := range out {
		if p.Connections.Inbound == nil {
			p.Connections.Inbound = []Connection{}
		}
		if p.Connections.Outbound == nil {
			p.Connections.Outbound = []Connection{}
		}
		out[uid] = p
	}
	return out
}

func certificates(all []cert.Status) []Certificate {
	out := make([]Certificate, 0, len(all))
	for _, st := range all {
		c := Certificate{
			Identity: st.Identity.String(), State: st.State, CertChain: chain(st.Chain), RootCerts: chain(st.Roots),
		}
		if !st.Renew.IsZero() {
			c.Renew = &st.Renew
		}
		out = append(out, c)
	}
	return out
}

func chain(certs []*x509.Certificate) []X509 {
	out := make([]X509, 0, len(certs))
	for _, c := range certs {
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
		out = append(out, X509{
			PEM: base64.StdEncoding.EncodeToString(text), SerialNumber: c.SerialNumber.String(),
			ValidFrom: c.NotBefore.UTC().Format(time.RFC3339), ExpirationTime: c.NotAfter.UTC().Format(time.RFC3339),
		})
	}
	return out
}

// dumpHandler serves one dump at a time: in a large mesh one is many megabytes.
func dumpHandler(cfg Config) http.Handler {
	busy := make(chan struct{}, 1)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case busy <- struct{}{}:
			defer func() { <-busy }()
		case <-r.Context().Done():
			return
		}
		doc, err := cfg.Dump.dump()
		if err != nil {
			cfg.Log.Error("config dump failed", "err", err)
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		if err := enc.Encode(doc); err != nil {
			cfg.Log.Debug("config dump not delivered", "err", err)
		}
	})
}
