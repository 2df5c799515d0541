package datapath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/ambit-mesh/ambit/agent/netns"
)

// Remove ends the capture of all pods and takes everything out of the kernel. find opens a pod's namespace by its cookie, or
// answers nil; it may be nil itself. Live connections of the mesh go on, but have the pod's own addresses as names.
func (d *Datapath) Remove(find func(cookie uint64) *netns.Handle) error {
	var errs []error
	for _, p := range d.Enrolled() {
		var ns *netns.Handle
		if find != nil {
			ns = find(p.Cookie)
		}
		errs = append(errs, d.Withdraw(p.Cookie, ns))
	}
	for _, h := range slices.Backward(hooks) { // what captures first
		errs = append(errs, unpin(filepath.Join(d.linksDir(), h.prog)))
	}
	_, err := removePins(d.cfg.PinDir, "")
	errs = append(errs, d.Close(), err)
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove datapath: %w", err)
	}
	return nil
}

// Clean takes everything of an agent out of the kernel that does not run and whose pins need not be of this build.
func Clean(pinDir string) error {
	if err := checkBpffs(pinDir); err != nil {
		return err
	}
	if _, err := removePins(pinDir, ""); err != nil {
		return fmt.Errorf("clean datapath: %w", err)
	}
	return nil
}

// versionDir is the name of a directory of ours; whatever else may lie in the pin directory is not touched.
var versionDir = regexp.MustCompile(`^v[0-9]+$`)

// removePins removes the pins of every version but keep: with its pin, a link loses its attachment. The directory goes too if
// nothing else is in it.
func removePins(dir, keep string) (removed []string, err error) {
	all, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, d := range all {
		if path := filepath.Join(dir, d.Name()); path != keep && versionDir.MatchString(d.Name()) {
			if err := os.RemoveAll(path); err != nil {
				return removed, err
			}
			removed = append(removed, path)
		}
	}
	if keep == "" && len(removed) == len(all) {
		return removed, os.Remove(dir)
	}
	return removed, nil
}

// removeOtherVersions removes what agents of other layouts have pinned; ours is in force by now. Their pods are not enrolled any
// more, and their live connections lose the names of their peers.
func (d *Datapath) removeOtherVersions() error {
	removed, err := removePins(d.cfg.PinDir, d.version)
	for _, path := range removed {
		d.cfg.Log.Warn("pins of another layout removed; their pods have to be enrolled again", "pins", path)
	}
	if err != nil {
		return fmt.Errorf("pins of another layout: %w", err)
	}
	return nil
}
