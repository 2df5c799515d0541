package validate

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ambit-mesh/ambit/controller/source/manifest"
)

type text struct {
	name string
	text []byte
}

// read reads files, folders and standard input, in the order given.
func read(names []string, in io.Reader) (out []text, err error) {
	for _, name := range names {
		if name == "-" {
			data, err := limited(in)
			if err != nil {
				return nil, fmt.Errorf("standard input: %w", err)
			}
			out = append(out, text{"stdin", data})
			continue
		}
		files, err := list(name)
		if err != nil {
			return nil, err
		}
		if len(files) == 0 {
			return nil, fmt.Errorf("%s: no .yaml, .yml or .json file", name)
		}
		for _, file := range files {
			f, err := os.Open(file)
			if err != nil {
				return nil, err
			}
			data, err := limited(f)
			_ = f.Close() // it was only read
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			out = append(out, text{file, data})
		}
	}
	return out, nil
}

func list(name string) (files []string, err error) {
	err = filepath.WalkDir(name, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path != name && strings.HasPrefix(d.Name(), "."):
			if d.IsDir() {
				return filepath.SkipDir
			}
		case d.IsDir():
		case path == name || filepath.Ext(path) == ".yaml" || filepath.Ext(path) == ".yml" || filepath.Ext(path) == ".json":
			files = append(files, path)
		}
		return nil
	})
	return files, err
}

func limited(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, manifest.MaxBytes+1))
	if err == nil && len(data) > manifest.MaxBytes {
		err = fmt.Errorf("more than %d bytes", manifest.MaxBytes)
	}
	return data, err
}
