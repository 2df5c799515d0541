package cni

import (
	"fmt"
	"os"
	"path/filepath"
)

// OtherMeshes names what in the configuration that the runtime uses, the first of dir by name, takes pods by the labels that are
// ours too: Istio's plugin in ambient mode. Its plugin for sidecars, and Linkerd's, leave alone what has no sidecar. Which pods
// have one, their annotations say. A folder that cannot be read, or has no configuration yet, names nobody.
func OtherMeshes(dir string) []string {
	path, err := first(dir)
	if err != nil {
		return nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	l, err := parseList(text)
	if err != nil {
		return nil
	}
	for _, p := range l["plugins"].([]any) {
		plugin, ok := p.(map[string]any)
		if !ok || plugin["type"] != "istio-cni" {
			continue
		}
		if on, said := plugin["ambient_enabled"]; said && (on == true || on == "true") {
			return []string{fmt.Sprintf("%s has istio-cni in ambient mode, which takes pods of the same labels; uninstall it (Istio's chart cni, DaemonSet "+
				"istio-cni-node) and they join this mesh", filepath.Base(path))}
		}
	}
	return nil
}
