package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/ambit-mesh/ambit/agent/datapath"
	"github.com/ambit-mesh/ambit/agent/enroll"
	"github.com/ambit-mesh/ambit/agent/netns"
	"github.com/ambit-mesh/ambit/agent/podnet"
)

// sourceWait bounds how long Uninstall waits to learn which pods carry the annotation.
const sourceWait = 10 * time.Second

// Uninstall takes everything of a node's agent away, which must not run: the plugin out of the CNI configuration, hooks and
// pins, the settings of pods' namespaces, annotations (where a source is configured), sockets and state. It does as much as it
// can and reports the rest. Repeating it is harmless.
func Uninstall(ctx context.Context, cfg Config) error {
	unlock, err := prepare(&cfg)
	if err != nil {
		return err
	}
	defer unlock()
	home, err := netns.Current()
	if err != nil {
		return err
	}
	defer home.Close()
	var errs []error
	if cfg.CNIConfDir != "" {
		i, err := cfg.installer()
		if err == nil {
			err = i.Uninstall()
		}
		errs = append(errs, err)
	}
	find := &finder{dir: cfg.NetnsDir, proc: cfg.ProcDir, home: home.ID(), log: cfg.Log}
	defer find.forget()
	errs = append(errs, removeDatapath(&cfg, find), restoreSettings(&cfg, find))
	if cfg.Manifests != "" || cfg.Kubernetes {
		errs = append(errs, removeAnnotations(ctx, &cfg))
	}
	for _, path := range []string{cfg.HandoffSocket, cfg.CNISocket, cfg.StatusSocket} {
		if path != "" {
			if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				errs = append(errs, fmt.Errorf("socket: %w", err))
			}
		}
	}
	if errors.Join(errs...) == nil {
		_ = os.Remove(filepath.Dir(cfg.PinDir)) // stays where others have something in it
		errs = append(errs, os.RemoveAll(filepath.Join(cfg.StateDir, "settings")), os.Remove(filepath.Join(cfg.StateDir, "agent.lock")))
	}
	return errors.Join(errs...)
}

// Uninstalled serves /readyz and /healthz until ctx ends, and does nothing else: a DaemonSet that uninstalls is ready on the
// nodes where it has.
func Uninstalled(ctx context.Context, cfg Config) error {
	cfg.Log.Info("agent uninstalled; nothing of it is left on this node", "node", cfg.Node)
	if cfg.HTTP == "" {
		<-ctx.Done()
		return nil
	}
	l, err := listenTCP(ctx, cfg.HTTP)
	if err != nil {
		return err
	}
	return serve(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "uninstalled") }))
}

// removeDatapath withdraws pod by pod where this build can adopt the pins, and otherwise removes the pins alone.
func removeDatapath(cfg *Config, find *finder) error {
	if _, err := os.Stat(cfg.PinDir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	d, err := datapath.Load(datapath.Config{PinDir: cfg.PinDir, CgroupRoot: cfg.CgroupRoot, ProcDir: cfg.ProcDir, Log: cfg.Log})
	if err != nil {
		cfg.Log.Warn("pins cannot be adopted; removing them as they are", "err", err)
		return datapath.Clean(cfg.PinDir)
	}
	var lent []*netns.Handle
	defer func() {
		for _, ns := range lent {
			ns.Close()
		}
	}()
	return d.Remove(func(cookie uint64) *netns.Handle {
		ns := find.byCookie(cookie)
		if ns != nil {
			lent = append(lent, ns)
		}
		return ns
	})
}

func restoreSettings(cfg *Config, find *finder) error {
	s := &podnet.Settings{Dir: filepath.Join(cfg.StateDir, "settings"), Ports: enroll.MeshPorts(), Sys: cfg.SysctlDir}
	cookies, err := s.Remembered()
	errs := []error{err}
	for _, cookie := range cookies {
		ns := find.byCookie(cookie)
		if ns == nil {
			errs = append(errs, s.Forget(cookie))
			continue
		}
		errs = append(errs, s.Restore(ns, cookie), ns.Close())
	}
	return errors.Join(errs...)
}

func removeAnnotations(ctx context.Context, cfg *Config) error {
	from, err := makeSource(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, sourceWait)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- from.Run(ctx) }()
	var errs []error
	for set := from.Set(); ; set = from.Set() {
		if set != nil {
			for _, p := range set.Pods() {
				errs = append(errs, from.Annotate(ctx, p.Key, p.UID, ""))
			}
			cancel()
			return errors.Join(append(errs, <-done)...)
		}
		select {
		case <-from.Changed():
		case err := <-done:
			return errors.Join(errors.New("annotations of the pods were not removed: the pods are not known"), err)
		}
	}
}
