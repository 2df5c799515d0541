package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/engine"
	releaseutil "helm.sh/helm/v4/pkg/release/v1/util"
	"helm.sh/helm/v4/pkg/strvals"
)

// Release is what an installation is called and where it goes.
type Release struct{ Name, Namespace string }

// Load reads the chart; a version replaces that of the chart and of its images.
func Load(dir, version string) (*chart.Chart, error) {
	c, err := loader.LoadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("chart %s: %w", dir, err)
	}
	if version != "" {
		c.Metadata.Version, c.Metadata.AppVersion = strings.TrimPrefix(version, "v"), version
	}
	return c, c.Validate()
}

// Render is what Helm would install: manifests in the order of installation. Values that the schema does not allow are an
// error that names each.
func Render(c *chart.Chart, r Release, values map[string]any) (string, error) {
	files, err := files(c, r, values)
	if err != nil {
		return "", err
	}
	for name := range files {
		if filepath.Ext(name) != ".yaml" {
			delete(files, name)
		}
	}
	_, manifests, err := releaseutil.SortManifests(files, nil, releaseutil.InstallOrder)
	if err != nil {
		return "", err
	}
	// The agent needs the node's namespaces and folders, which clusters may refuse by default.
	parts := []string{"apiVersion: v1\nkind: Namespace\nmetadata:\n  name: " + r.Namespace + "\n  labels:\n    pod-security.kubernetes.io/enforce: privileged" +
		"\n    pod-security.kubernetes.io/audit: privileged\n    pod-security.kubernetes.io/warn: privileged"}
	for _, m := range manifests {
		parts = append(parts, strings.TrimSpace(m.Content))
	}
	return document(parts), nil
}

// files are all that the templates make, by their names; NOTES.txt, which Helm shows after installing, is among them.
func files(c *chart.Chart, r Release, values map[string]any) (map[string]string, error) {
	all, err := util.ToRenderValues(c, values, common.ReleaseOptions{Name: r.Name, Namespace: r.Namespace, IsInstall: true}, common.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	return engine.Render(c, all)
}

// Package writes the chart with its CRDs as an archive that helm installs, and returns the archive's path.
func Package(c *chart.Chart, crds, dir string) (string, error) {
	withCRDs := *c
	withCRDs.Files = append(slices.Clone(c.Files), &common.File{Name: "crds/crds.yaml", Data: []byte(crds)})
	path, err := chartutil.Save(&withCRDs, dir)
	if err != nil {
		return "", fmt.Errorf("package the chart: %w", err)
	}
	return path, nil
}

func parseSet(s string, into map[string]any) error { return strvals.ParseInto(s, into) }
