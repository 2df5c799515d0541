package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// image is one image for every architecture, with its bills of materials.
type image struct {
	name  name.Tag
	index v1.ImageIndex
	boms  []bom
}

// assemble builds the programs and puts them into an index of images, one for each architecture. Nothing in it depends on
// when or where it was made.
func assemble(ctx context.Context, o options, s spec) (*image, error) {
	var opts []name.Option
	if o.insecure {
		opts = append(opts, name.Insecure)
	}
	tag, err := name.NewTag(o.hub+"/"+s.name+":"+o.tag, opts...)
	if err != nil {
		return nil, err
	}
	out := &image{name: tag, index: mutate.IndexMediaType(empty.Index, types.OCIImageIndex)}
	for _, arch := range o.architectures {
		dir, err := os.MkdirTemp("", "ambit-image-*")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		var files []file
		for _, p := range s.programs {
			built := filepath.Join(dir, filepath.Base(p.path))
			if err := compile(ctx, o, p.pkg, arch, built); err != nil {
				return nil, err
			}
			files = append(files, file{from: built, to: p.path})
		}
		img, err := single(o, s, arch, files)
		if err != nil {
			return nil, err
		}
		digest, err := img.Digest()
		if err != nil {
			return nil, err
		}
		b, err := billOf(s, arch, o.version, digest, files)
		if err != nil {
			return nil, fmt.Errorf("bill of materials: %w", err)
		}
		out.boms = append(out.boms, b)
		out.index = mutate.AppendManifests(out.index, mutate.IndexAddendum{
			Add:        img,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	return out, nil
}

// single is the image for one architecture.
func single(o options, s spec, arch string, files []file) (v1.Image, error) {
	layer, err := layerOf(files)
	if err != nil {
		return nil, err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err = mutate.Append(img, mutate.Addendum{
		Layer: layer, MediaType: types.OCILayer,
		History: v1.History{CreatedBy: "ambit deploy/images", Comment: s.title, Created: v1.Time{Time: time.Unix(0, 0).UTC()}},
	})
	if err != nil {
		return nil, err
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture = "linux", arch
	cfg.Created = v1.Time{Time: time.Unix(0, 0).UTC()}
	cfg.Config.Entrypoint = []string{files[0].to}
	cfg.Config.User = s.user
	cfg.Config.Env = []string{"PATH=/usr/local/bin"}
	cfg.Config.Labels = map[string]string{
		"org.opencontainers.image.title":    s.title,
		"org.opencontainers.image.version":  o.version,
		"org.opencontainers.image.licenses": "Apache-2.0",
	}
	return mutate.ConfigFile(img, cfg)
}
