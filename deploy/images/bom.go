package main

import (
	"bytes"
	"debug/buildinfo"
	"fmt"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// bom is the bill of materials of one image: CycloneDX 1.6, JSON.
type bom struct {
	arch  string
	image v1.Hash
	text  []byte
}

// billOf reads out of the programs themselves which modules they were linked from.
func billOf(s spec, arch, version string, image v1.Hash, files []file) (bom, error) {
	modules := map[string]cdx.Component{}
	for _, f := range files {
		info, err := buildinfo.ReadFile(f.from)
		if err != nil {
			return bom{}, fmt.Errorf("%s: %w", f.to, err)
		}
		std := cdx.Component{
			Type: cdx.ComponentTypeLibrary, Name: "stdlib", Version: strings.TrimPrefix(info.GoVersion, "go"),
			PackageURL: "pkg:golang/stdlib@" + strings.TrimPrefix(info.GoVersion, "go"),
		}
		modules[std.Name] = std
		for _, d := range info.Deps {
			if d.Replace != nil {
				d = d.Replace
			}
			modules[d.Path+"@"+d.Version] = cdx.Component{
				Type: cdx.ComponentTypeLibrary, Name: d.Path, Version: d.Version, PackageURL: "pkg:golang/" + d.Path + "@" + d.Version,
			}
		}
	}
	var list []cdx.Component
	for _, c := range modules {
		c.BOMRef = c.PackageURL
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b cdx.Component) int { return strings.Compare(a.PackageURL, b.PackageURL) })
	doc := cdx.NewBOM()
	doc.Metadata = &cdx.Metadata{Component: &cdx.Component{
		BOMRef: "ambit-" + s.name, Type: cdx.ComponentTypeContainer, Name: "ambit-" + s.name, Version: version, Description: s.title,
		Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: image.Hex}},
	}}
	doc.Components = &list
	var buf bytes.Buffer
	enc := cdx.NewBOMEncoder(&buf, cdx.BOMFileFormatJSON)
	if err := enc.SetPretty(true).EncodeVersion(doc, cdx.SpecVersion1_6); err != nil {
		return bom{}, err
	}
	return bom{arch: arch, image: image, text: buf.Bytes()}, nil
}
