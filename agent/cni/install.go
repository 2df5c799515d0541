package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Installer keeps the plugin chained in the configuration that the container runtime uses: the first of the folder by name.
type Installer struct {
	Dir    string // the runtime's, such as /etc/cni/net.d
	Entry  json.RawMessage
	Source string // the plugin's binary, copied to Bin; empty: it is there already
	Bin    string // folder of the runtime's plugins
	Log    *slog.Logger

	Report    func(error)  // called by Run after each look: nil, the plugin is in its place, or why it is not. nil: nobody wants to know
	Rewritten func(string) // called by Run: somebody rewrites the configuration again and again; "": not any more. nil: nobody wants to know
}

// Timing of repairs.
const (
	repairPause = 200 * time.Millisecond // another tool's burst of writes is answered once
	repairEvery = 30 * time.Second       // for what no event told
	folderEvery = time.Second            // while there is no folder to tell anything
)

// saved marks a single-plugin configuration that a list took the place of.
const saved = ".ambit-saved"

// Run installs and repairs until ctx ends; what it installed stays, so that pods wait for the next agent rather than start
// outside the mesh. Uninstall takes it away. A folder that is not there, or is made anew, is waited for.
func (i *Installer) Run(ctx context.Context) error {
	watch, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", i.Dir, err)
	}
	defer watch.Close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	said, fight := "", quarrel{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-watch.Events:
			timer.Reset(fight.pause())
		case <-watch.Errors:
			timer.Reset(fight.pause())
		case <-timer.C:
			watchErr := watch.Add(i.Dir) // once more does no harm, and a new folder of that name has no watch
			path, changed, err := i.Install()
			if err == nil && watchErr != nil {
				err = fmt.Errorf("watch %s: %w", i.Dir, watchErr)
			}
			switch {
			case err != nil && err.Error() != said:
				said = err.Error()
				i.Log.Error("cni plugin is not installed; new pods start outside the mesh until it is", "err", err)
			case err == nil && changed:
				i.Log.Info("cni plugin installed", "file", path)
			}
			if err == nil {
				said = ""
			}
			if i.Report != nil {
				i.Report(err)
			}
			i.quarrels(&fight, path, err == nil && changed)
			if watchErr != nil {
				timer.Reset(folderEvery)
				continue
			}
			timer.Reset(repairEvery)
		}
	}
}

// quarrels tells of somebody who takes the plugin out again and again, once it begins and once it ends.
func (i *Installer) quarrels(fight *quarrel, path string, changed bool) {
	before := fight.on()
	fight.look(time.Now(), changed)
	if fight.on() == before || i.Rewritten == nil {
		return
	}
	message := ""
	if !before {
		message = fmt.Sprintf("another program keeps taking the mesh's plugin out of %s (%d times within %s); it is put back at most every %s, and pods that "+
			"start in between join the mesh a moment late: tell that program to leave other plugins alone (Cilium: cni.exclusive=false)",
			filepath.Base(path), quarrelMany, quarrelTime, quarrelPause)
		i.Log.Error("cni configuration is fought over", "file", path, "what", message)
	}
	i.Rewritten(message)
}

// Install chains the plugin once, if it is not yet, and answers where.
func (i *Installer) Install() (path string, changed bool, err error) {
	if i.Source != "" {
		if err := i.copyBinary(); err != nil {
			return "", false, err
		}
	}
	path, err = first(i.Dir)
	if err != nil {
		return "", false, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return path, false, fmt.Errorf("cni configuration: %w", err)
	}
	out, changed, err := Chain(text, i.Entry)
	if err != nil || !changed {
		return path, false, err
	}
	if filepath.Ext(path) != ".conf" {
		return path, true, replace(path, out)
	}
	// The runtime takes the first by name, and x.conf comes before x.conflist.
	if err := replace(path+"list", out); err != nil {
		return path, false, err
	}
	if err := os.Rename(path, path+saved); err != nil {
		return path, false, fmt.Errorf("cni configuration: %w", err)
	}
	return path + "list", true, nil
}

// Uninstall takes the plugin out of every configuration of the folder.
func (i *Installer) Uninstall() error {
	entries, err := os.ReadDir(i.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cni configuration: %w", err)
	}
	var errs []error
	for _, e := range entries {
		path := filepath.Join(i.Dir, e.Name())
		if !isConfiguration(e) {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			errs = append(errs, fmt.Errorf("cni configuration: %w", err))
			continue
		}
		out, changed, err := Unchain(text)
		if err != nil || !changed {
			continue // not one that we could have written
		}
		original := strings.TrimSuffix(path, "list") + saved
		if _, err := os.Stat(original); err == nil {
			errs = append(errs, os.Rename(original, strings.TrimSuffix(original, saved)), os.Remove(path))
			continue
		}
		errs = append(errs, replace(path, out))
	}
	if i.Source != "" {
		if err := os.Remove(filepath.Join(i.Bin, Type)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("cni plugin: %w", err))
		}
	}
	return errors.Join(errs...)
}

// first finds the configuration that a runtime would use: the first by name that can be read.
func first(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("cni configuration: %w", err)
	}
	for _, e := range entries { // by name
		path := filepath.Join(dir, e.Name())
		if !isConfiguration(e) {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if l, err := parseList(text); err == nil && slices.ContainsFunc(l["plugins"].([]any), func(p any) bool { return !isOurs(p) }) {
			return path, nil
		}
	}
	return "", fmt.Errorf("cni configuration: no network is configured in %s yet", dir)
}

func isConfiguration(e fs.DirEntry) bool {
	return e.Type().IsRegular() && slices.Contains([]string{".conf", ".conflist", ".json"}, filepath.Ext(e.Name()))
}

// replace writes a file whole or not at all, readable by root alone as CNI configurations are.
func replace(path string, text []byte) error {
	temporary := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".ambit")
	if err := os.WriteFile(temporary, text, 0o600); err != nil {
		return fmt.Errorf("cni configuration: %w", err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return errors.Join(fmt.Errorf("cni configuration: %w", err), os.Remove(temporary))
	}
	return nil
}

// copyBinary puts the plugin where the runtime looks for it, if it is not there as it is.
func (i *Installer) copyBinary() error {
	text, err := os.ReadFile(i.Source)
	if err != nil {
		return fmt.Errorf("cni plugin: %w", err)
	}
	target := filepath.Join(i.Bin, Type)
	if have, err := os.ReadFile(target); err == nil && string(have) == string(text) {
		return nil
	}
	temporary := filepath.Join(i.Bin, "."+Type+".new")
	if err := os.WriteFile(temporary, text, 0o755); err != nil {
		return fmt.Errorf("cni plugin: %w", err)
	}
	if err := os.Rename(temporary, target); err != nil {
		return fmt.Errorf("cni plugin: %w", err)
	}
	return nil
}
