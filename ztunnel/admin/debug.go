package admin

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"strconv"
	"strings"
	"time"
)

const index = `<!DOCTYPE html><title>ambit ztunnel</title><h1>ambit ztunnel</h1><ul>
<li><a href="config_dump">config_dump</a>: what the ztunnel knows and holds
<li>logging: POST with level=debug|info|warn|error, or reset
<li>quitquitquit: POST begins the shutdown
<li><a href="debug/pprof/">debug/pprof</a>: profiles
</ul>
`

func adminHandler(cfg Config) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, index)
	})
	mux.Handle("/config_dump", dumpHandler(cfg))
	mux.HandleFunc("POST /logging", loggingHandler(cfg.Level, cfg.Level.Level()))
	mux.HandleFunc("POST /quitquitquit", func(w http.ResponseWriter, _ *http.Request) {
		cfg.Log.Info("shutdown asked for over the admin port")
		cfg.Quit()
		io.WriteString(w, "shutdown now\n")
	})
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", timed(pprof.Profile))
	mux.HandleFunc("/debug/pprof/trace", timed(pprof.Trace))
	return mux
}

// timed gives a profile of ?seconds= (1 to 300, 10 if absent) the time it needs.
func timed(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		seconds := 10
		q := r.URL.Query()
		if s := q.Get("seconds"); s != "" {
			n, err := strconv.Atoi(s)
			if err != nil || n < 1 || n > 300 {
				http.Error(w, "seconds must be 1 to 300", http.StatusBadRequest)
				return
			}
			seconds = n
		}
		q.Set("seconds", strconv.Itoa(seconds))
		r.URL.RawQuery = q.Encode()
		deadline := time.Now().Add(time.Duration(seconds)*time.Second + answerTimeout)
		rc := http.NewResponseController(w)
		if rc.SetReadDeadline(deadline) != nil || rc.SetWriteDeadline(deadline) != nil {
			http.Error(w, "no deadlines", http.StatusInternalServerError)
			return
		}
		next(w, r)
	}
}

// loggingHandler changes the level; initial is what reset goes back to. Istio's levels per target are not offered: the
// request is refused rather than half obeyed.
func loggingHandler(level *slog.LevelVar, initial slog.Level) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if q.Has("reset") {
			level.Set(initial)
		}
		if q.Has("level") {
			l, err := parseLevel(q.Get("level"))
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			level.Set(l)
		}
		fmt.Fprintf(w, "current log level is %s\n", strings.ToLower(level.Level().String()))
	}
}

func parseLevel(s string) (slog.Level, error) {
	switch strings.ToLower(s) {
	case "trace", "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn", "warning":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("level %.40q: want trace, debug, info, warn or error, for the whole process", s)
}
