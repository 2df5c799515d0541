// Command chart makes what users install out of the chart in ambit/: the packaged chart, plain manifests, and the CRDs of
// Istio and the Gateway API as the product's own modules carry them.
//
// It answers "what does this chart make of these values?" with Helm's own engine, schema check included, and installs nothing.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"
)

func main() {
	f := pflag.NewFlagSet("chart", pflag.ExitOnError)
	source := f.String("source", ".", "root of the product's module")
	out := f.String("out", "build/chart", "folder for ambit-<version>.tgz, crds.yaml and ambit.yaml (the manifests)")
	release := f.String("release", "ambit", "name of the release in the manifests")
	namespace := f.String("namespace", "ambit-system", "namespace of the manifests")
	version := f.String("version", "", "version of chart and images; empty: the chart's own")
	files := f.StringSliceP("values", "f", nil, "files of values for the manifests")
	set := f.StringArray("set", nil, "single values, path=value")
	_ = f.Parse(os.Args[1:]) // exits
	if err := run(*source, *out, Release{*release, *namespace}, *version, *files, *set); err != nil {
		fmt.Fprintln(os.Stderr, "chart:", err)
		os.Exit(1)
	}
}

func run(source, out string, release Release, version string, files, set []string) error {
	values, err := readValues(files, set)
	if err != nil {
		return err
	}
	crds, err := CRDs(source)
	if err != nil {
		return err
	}
	c, err := Load(filepath.Join(source, "deploy/chart/ambit"), version)
	if err != nil {
		return err
	}
	text, err := Render(c, release, values)
	if err != nil {
		return err
	}
	packed, err := Package(c, crds, out)
	if err != nil {
		return err
	}
	// kubectl delete knows no such policy: what Helm would leave is with the definitions, which nobody deletes lightly.
	text, kept := keep(text)
	crds = document(append(kept, crds))
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for name, content := range map[string]string{"crds.yaml": crds, "ambit.yaml": text} {
		if err := os.WriteFile(filepath.Join(out, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	fmt.Printf("%s\n%s\n%s\n", packed, filepath.Join(out, "crds.yaml"), filepath.Join(out, "ambit.yaml"))
	return nil
}

// readValues merges files in their order, then single values.
func readValues(files, set []string) (map[string]any, error) {
	values := map[string]any{}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		var more map[string]any
		if err := yaml.UnmarshalStrict(text, &more); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		merge(values, more)
	}
	for _, s := range set {
		if err := parseSet(s, values); err != nil {
			return nil, fmt.Errorf("value %q: %w", s, err)
		}
	}
	return values, nil
}

func merge(into, from map[string]any) {
	for k, v := range from {
		if sub, ok := v.(map[string]any); ok {
			if old, ok := into[k].(map[string]any); ok {
				merge(old, sub)
				continue
			}
		}
		into[k] = v
	}
}

// keep takes out of manifests what Helm is told to leave when the release goes: the root namespace, with the mesh's root
// certificate and users' policies in it.
func keep(manifests string) (rest string, kept []string) {
	var others []string
	for part := range strings.SplitSeq(strings.TrimSuffix(manifests, "\n"), "\n---\n") {
		if strings.Contains(part, "helm.sh/resource-policy: keep") {
			kept = append(kept, part)
		} else {
			others = append(others, part)
		}
	}
	return document(others), kept
}

// document joins manifests to one text.
func document(parts []string) string {
	return strings.Join(parts, "\n---\n") + "\n"
}
