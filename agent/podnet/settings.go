package podnet

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ambit-mesh/ambit/agent/netns"
)

// Settings keeps the settings of pods' namespaces. What they were is written to a file in Dir before anything is changed, so
// that an agent that starts again can still give them back; the file is named after the namespace's cookie.
type Settings struct {
	Dir   string   // survives the agent, not the machine: netns cookies start again at a reboot. /run is right
	Ports []uint16 // the mesh's own
	Sys   string   // a /proc/sys that can be written, which a container's own cannot; empty: /proc/sys
}

// Apply makes a namespace's settings the mesh's. It may be repeated. missing names settings that this kernel does not have.
func (s *Settings) Apply(h *netns.Handle, cookie uint64) (missing []string, err error) {
	before, err := s.read(cookie)
	if err != nil {
		return nil, err
	}
	err = h.Do(func() error {
		now, absent, err := readAll(s.sys())
		if err != nil {
			return err
		}
		missing = absent
		writes, remember, err := planApply(now, before, s.Ports)
		if err != nil {
			return err
		}
		if before == nil {
			if err := s.write(cookie, remember); err != nil {
				return err
			}
		}
		return writeAll(s.sys(), writes)
	})
	return missing, err
}

// Restore gives a namespace its own settings back and forgets them. A namespace that Apply never saw is left alone.
func (s *Settings) Restore(h *netns.Handle, cookie uint64) error {
	before, err := s.read(cookie)
	if err != nil || before == nil {
		return err
	}
	err = h.Do(func() error {
		now, _, err := readAll(s.sys())
		if err != nil {
			return err
		}
		writes, err := planRestore(now, before, s.Ports)
		if err != nil {
			return err
		}
		return writeAll(s.sys(), writes)
	})
	if err != nil {
		return err
	}
	return s.Forget(cookie)
}

// Forget drops what is remembered of a namespace that is gone.
func (s *Settings) Forget(cookie uint64) error {
	if err := os.Remove(s.path(cookie)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remembered settings: %w", err)
	}
	return nil
}

// Remembered lists the cookies of the namespaces whose settings wait to be given back.
func (s *Settings) Remembered() ([]uint64, error) {
	entries, err := os.ReadDir(s.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remembered settings: %w", err)
	}
	var cookies []uint64
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if cookie, err := strconv.ParseUint(name, 10, 64); ok && err == nil {
			cookies = append(cookies, cookie)
		}
	}
	return cookies, nil
}

func (s *Settings) path(cookie uint64) string {
	return filepath.Join(s.Dir, strconv.FormatUint(cookie, 10)+".json")
}

func (s *Settings) read(cookie uint64) (Values, error) {
	text, err := os.ReadFile(s.path(cookie))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("remembered settings: %w", err)
	}
	values := Values{}
	if err := json.Unmarshal(text, &values); err != nil {
		return nil, fmt.Errorf("remembered settings %s: %w", s.path(cookie), err)
	}
	for key := range values {
		if key != twReuse && key != reservedPorts && key != migrateReq {
			return nil, fmt.Errorf("remembered settings %s: %q is none of ours", s.path(cookie), key)
		}
	}
	return values, nil
}

// write is atomic: an agent that dies here has either changed nothing yet or remembers all.
func (s *Settings) write(cookie uint64, v Values) error {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return fmt.Errorf("remembered settings: %w", err)
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("remembered settings: %w", err)
	}
	temporary := s.path(cookie) + ".new"
	if err := os.WriteFile(temporary, text, 0o600); err != nil {
		return fmt.Errorf("remembered settings: %w", err)
	}
	if err := os.Rename(temporary, s.path(cookie)); err != nil {
		return fmt.Errorf("remembered settings: %w", err)
	}
	return nil
}

func (s *Settings) sys() string { return cmp.Or(s.Sys, "/proc/sys") }

// readAll and writeAll run inside the namespace: net, wherever it is mounted, shows the calling thread's.
func readAll(sys string) (now Values, missing []string, err error) {
	now = Values{}
	for _, key := range []string{twReuse, reservedPorts, migrateReq} {
		text, err := os.ReadFile(filepath.Join(sys, key))
		if errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, key)
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("setting: %w", err)
		}
		now[key] = strings.TrimSpace(string(text))
	}
	return now, missing, nil
}

func writeAll(sys string, writes []Write) error {
	for _, w := range writes {
		// The newline matters: an empty write is ignored, and that is how an empty list of ports is said.
		if err := os.WriteFile(filepath.Join(sys, w.Key), []byte(w.Value+"\n"), 0); err != nil {
			return fmt.Errorf("setting %s=%s: %w", w.Key, w.Value, err)
		}
	}
	return nil
}
