package folder

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ambit-mesh/ambit/controller/source/manifest"
)

const (
	// maxFiles bounds a folder; more are an error, so that a wrong path does not read a whole disk.
	maxFiles = 200_000
	// racy is how old a file must be before an unchanged modification time proves that it was not written again: coarser
	// than any clock a file system uses for it.
	racy = 50 * time.Millisecond
)

// file is what is known of one file.
type file struct {
	size    int64
	mtime   time.Time
	settled bool // mtime was old enough when it was read
	sum     [sha256.Size]byte

	newest []manifest.Item // of the newest content; unset if that has problems
	errors []manifest.Problem
	good   []manifest.Item // in force
	counts bool            // newest is to be in force, rather than good
}

// list is the manifests of a folder, relative, in order, and the folders to watch. An empty folder is fine, none is not.
func list(dir string) (files, dirs []string, err error) {
	pods := filepath.Join(statusDir(dir), "pods")
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != dir {
			return nil // it went away meanwhile
		}
		if err != nil {
			return err
		}
		hidden := strings.HasPrefix(d.Name(), ".") && path != dir
		switch {
		case d.IsDir() && (hidden || path == filepath.Join(statusDir(dir), "conditions")):
			return filepath.SkipDir
		case d.IsDir():
			dirs = append(dirs, path)
		case hidden || !wanted(path, dir, pods):
		case len(files) >= maxFiles:
			return fmt.Errorf("more than %d files", maxFiles)
		default:
			rel, err := filepath.Rel(dir, path)
			if err != nil {
				return err
			}
			files = append(files, rel)
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("manifest folder %s: %w", dir, err)
	}
	return files, dirs, nil
}

func wanted(path, dir, pods string) bool {
	if strings.HasPrefix(path, statusDir(dir)+string(filepath.Separator)) {
		return filepath.Dir(path) == pods && filepath.Ext(path) == ".json"
	}
	switch filepath.Ext(path) {
	case ".yaml", ".yml", ".json":
		return true
	default:
		return false
	}
}

// load reads a file if it may have changed. again says that it was written so lately that it must be looked at once more.
func (f *file) load(path string, now time.Time) (data []byte, changed, again bool, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, false, false, err
	}
	if !info.Mode().IsRegular() {
		return nil, false, false, errors.New("not a regular file")
	}
	same := info.Size() == f.size && info.ModTime().Equal(f.mtime)
	if same && f.settled {
		return nil, false, false, nil
	}
	if info.Size() > manifest.MaxBytes {
		data = nil
		err = fmt.Errorf("file of %d bytes: want at most %d", info.Size(), manifest.MaxBytes)
	} else if data, err = os.ReadFile(path); err != nil {
		return nil, false, false, err
	}
	f.size, f.mtime = info.Size(), info.ModTime()
	age := now.Sub(f.mtime)
	f.settled = age > racy || age < -time.Second // a time in the future proves nothing, but cannot be waited for
	sum := sha256.Sum256(data)
	changed = err != nil || !bytes.Equal(sum[:], f.sum[:])
	f.sum = sum
	return data, changed, !f.settled, err
}
