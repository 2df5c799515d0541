package ca

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

const (
	lockFile    = ".lock"
	journalFile = ".journal" // a Save that was decided and may not have been carried out
	// maxStored bounds a stored file in bytes.
	maxStored = 1 << 20
)

// storedKeys are the files that belong to the authority; others in the folder are left alone.
var storedKeys = []string{KeyCert, KeyKey, KeyChain, KeyRoot, KeyOther, KeyNextCert, KeyNextKey, KeyPrevious, KeyRotation, KeyRotate}

// Folder is a Store of one file per key, readable by its owner only. Several processes of one machine may share it. A Save
// that a crash interrupts is completed by the next Load.
type Folder struct{ dir string }

// NewFolder makes a Store of the folder, which Save makes if there is none.
func NewFolder(dir string) *Folder { return &Folder{dir} }

// Load implements Store. The version is a digest of the contents.
func (f *Folder) Load(context.Context) (data map[string][]byte, version string, err error) {
	if _, err := os.Stat(f.dir); errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	err = f.locked(func() error {
		data, err = f.read()
		return err
	})
	if err != nil || data == nil {
		return nil, "", err
	}
	return data, digest(data), nil
}

// Save implements Store.
func (f *Folder) Save(_ context.Context, data map[string][]byte, version string) (string, error) {
	for k := range data {
		if !slices.Contains(storedKeys, k) {
			return "", fmt.Errorf("authority folder: %q is not one of its files", k)
		}
	}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return "", fmt.Errorf("authority folder: %w", err)
	}
	err := f.locked(func() error {
		now, err := f.read()
		if err != nil {
			return err
		}
		if now == nil && version != "" || now != nil && digest(now) != version {
			return ErrConflict
		}
		journal, err := json.Marshal(data)
		if err != nil {
			return err
		}
		if err := WriteFile(filepath.Join(f.dir, journalFile), journal, 0o600); err != nil {
			return fmt.Errorf("authority folder: %w", err)
		}
		return f.redo()
	})
	if err != nil {
		return "", err
	}
	return digest(data), nil
}

// read completes an interrupted Save and reads the files. Nil: there is no authority, whatever else the folder holds.
func (f *Folder) read() (map[string][]byte, error) {
	if err := f.redo(); err != nil {
		return nil, err
	}
	data := map[string][]byte{}
	for _, k := range storedKeys {
		path := filepath.Join(f.dir, k)
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("authority folder: %w", err)
		}
		if info.Size() > maxStored {
			return nil, fmt.Errorf("authority folder: %s of %d bytes: want at most %d", k, info.Size(), maxStored)
		}
		if data[k], err = os.ReadFile(path); err != nil {
			return nil, fmt.Errorf("authority folder: %w", err)
		}
	}
	if len(data[KeyCert]) == 0 && len(data[KeyKey]) == 0 {
		return nil, nil
	}
	return data, nil
}

// redo carries out what the journal says, and forgets it.
func (f *Folder) redo() error {
	journal := filepath.Join(f.dir, journalFile)
	text, err := os.ReadFile(journal)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("authority folder: %w", err)
	}
	var data map[string][]byte
	if err := json.Unmarshal(text, &data); err != nil {
		return fmt.Errorf("authority folder: %s: %w", journalFile, err)
	}
	for _, k := range storedKeys {
		path := filepath.Join(f.dir, k)
		if v, ok := data[k]; ok {
			err = WriteFile(path, v, 0o600)
		} else if err = os.Remove(path); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		if err != nil {
			return fmt.Errorf("authority folder: %w", err)
		}
	}
	if err := os.Remove(journal); err != nil {
		return fmt.Errorf("authority folder: %w", err)
	}
	return nil
}

// WriteFile replaces a file whole or not at all.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tmp-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err := errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// locked runs what under the folder's lock, which ends with the process at the latest.
func (f *Folder) locked(what func() error) error {
	lock, err := os.OpenFile(filepath.Join(f.dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("authority folder: %w", err)
	}
	defer lock.Close()
	for {
		if err = unix.Flock(int(lock.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("authority folder's lock: %w", err)
	}
	return what()
}

// digest is of keys and values, in order, each with its length.
func digest(data map[string][]byte) string {
	h := sha256.New()
	write := func(b []byte) {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(b)))
		h.Write(size[:])
		h.Write(b)
	}
	for _, k := range slices.Sorted(maps.Keys(data)) {
		write([]byte(k))
		write(data[k])
	}
	return hex.EncodeToString(h.Sum(nil))
}
