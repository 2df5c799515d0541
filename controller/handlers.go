package controller

import (
	"encoding/json"
	"net/http"
	"net/http/pprof"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

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
	mux.HandleFunc("GET /debug/connections", func(w http.ResponseWriter, _ *http.Request) {
		clients := xs.Clients()
		writeJSON(w, map[string]any{"totalClients": len(clients), "clients": clients})
	})
	mux.HandleFunc("POST /debug/force_disconnect", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, map[string]int{"disconnected": xs.Disconnect(r.FormValue("proxyID"))})
	})
	d := dumps{table: p.table, statuses: p.statuses, problems: problems.now.get, settings: p.settings, nodeAccounts: cfg.NodeAccounts}
	for name, dump := range map[string]func(*jsonStream){
		"config": d.everything, "registryz": d.services, "endpointz": d.endpoints, "authorizationz": d.policies, "configz": d.objects, "ambientz": d.resources,
	} {
		mux.HandleFunc("GET /debug/"+name, func(w http.ResponseWriter, _ *http.Request) { serveDump(w, p.log, dump) })
	}
	mux.HandleFunc("GET /debug/list", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, debugPages) })
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

var debugPages = []string{
	"ambientz", "authorizationz", "config", "configz", "connections", "endpointz", "force_disconnect?proxyID= (POST)", "pprof/", "registryz", "syncz",
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}
