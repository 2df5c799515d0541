package folder

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ambit-mesh/ambit/controller/objects"
	"github.com/ambit-mesh/ambit/controller/source/manifest"
)

// Status writes conditions and problems beside the manifests, each file whole or not at all. It keeps no state.
type Status struct{ dir string }

// NewStatus writes below the folder's status folder.
func NewStatus(dir string) Status { return Status{statusDir(dir)} }

// WriteStatus implements source.StatusWriter: status/conditions/<Kind>_<namespace>_<name>.json.
func (s Status) WriteStatus(ctx context.Context, statuses []objects.Status) error {
	var errs []error
	for _, st := range statuses {
		if err := ctx.Err(); err != nil {
			return err
		}
		path := filepath.Join(s.dir, "conditions", fmt.Sprintf("%s_%s_%s.json", st.Key.Kind, st.Key.Namespace, st.Key.Name))
		if st.Empty() {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, fmt.Errorf("conditions of %s: %w", st.Key, err))
			}
			continue
		}
		if err := writeJSON(path, struct {
			Object string `json:"object"`
			objects.Status
		}{st.Key.String(), st}); err != nil {
			errs = append(errs, fmt.Errorf("conditions of %s: %w", st.Key, err))
		}
	}
	return errors.Join(errs...)
}

// Clear removes the conditions that an earlier run left: its objects may be gone.
func (s Status) Clear() error {
	if err := os.RemoveAll(filepath.Join(s.dir, "conditions")); err != nil {
		return fmt.Errorf("old conditions: %w", err)
	}
	return nil
}

// WriteProblems replaces status/problems.json.
func (s Status) WriteProblems(problems []manifest.Problem) error {
	if problems == nil {
		problems = []manifest.Problem{}
	}
	return writeJSON(filepath.Join(s.dir, "problems.json"), problems)
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err := errors.Join(err, tmp.Chmod(0o644), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
