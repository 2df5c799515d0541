package controller

import (
	"encoding/json"
	"net/http"
	"net/http/pprof"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ambit-mesh/ambit/controller/api/plain"
	"github.com/ambit-mesh/ambit/controller/xds"
)

// publicHandler is what may be asked from anywhere in the cluster.
func publicHandler(ready *readiness, reg *prometheus.Registry, version string) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /ready", ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, map[string]string{"version": version, "golang_version": runtime.Version()})
	})
	return mux
}

// debugHandler is for whoever is on the machine: it shows the whole configuration.
func debugHandler(ready *readiness, p *pipeline, xs *xds.Server, problems *problemBoard, cfg Config, reg *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /ready", ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/syncz", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, xs.Clients()) })
	mux.HandleFunc("GET /debug/config", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, dump(p, problems, cfg)) })
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

// dump is everything the controller knows, readable.
func dump(p *pipeline, problems *problemBoard, cfg Config) map[string]any {
	workloads, services, policies, statuses, conditions := map[string]any{}, map[string]any{}, map[string]any{}, map[string]any{}, map[string]any{}
	addresses, rules, err := p.table.Dump()
	if err != nil {
		p.log.Error("resources cannot be dumped", "err", err)
	}
	for name, a := range addresses {
		if w := a.GetWorkload(); w != nil {
			workloads[name] = plain.Value(w)
		} else {
			services[name] = plain.Value(a.GetService())
		}
	}
	for name, pol := range rules {
		policies[name] = plain.Value(pol)
	}
	for key, st := range p.statuses() {
		statuses[key.String()], conditions[key.String()] = st, st.Conditions
	}
	return map[string]any{
		"settings": cfg.Translate, "workloads": workloads, "services": services, "policies": policies, "conditions": conditions,
		"statuses": statuses, "problems": problems.now.get(), "nodeAccounts": cfg.NodeAccounts,
	}
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}
