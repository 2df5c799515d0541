package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/ambit-mesh/ambit/test/netlab"
)

// startPostgres makes a database cluster and starts PostgreSQL in the store, as an unprivileged user: it refuses to be root.
func (w *World) startPostgres(ctx context.Context) error {
	bin, err := postgresBin()
	if err != nil {
		return err
	}
	owner, err := user.Lookup("postgres")
	if err != nil {
		if owner, err = user.Lookup("nobody"); err != nil {
			return err
		}
	}
	uid, uidErr := strconv.Atoi(owner.Uid)
	gid, gidErr := strconv.Atoi(owner.Gid)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return err
	}
	dir, err := w.folder(w.store, "postgres", uid, gid)
	if err != nil {
		return err
	}
	data := filepath.Join(dir, "data")
	out, err := w.Lab.Exec(ctx, netlab.Spec{Pod: w.store.Ref(), User: owner.Username, Dir: dir, Argv: []string{
		filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "--auth=trust", "--no-sync", "--locale=C",
	}})
	if err == nil {
		err = out.Err()
	}
	if err != nil {
		return fmt.Errorf("initdb: %w", err)
	}
	hba := "local all all trust\nhost all all 0.0.0.0/0 trust\nhost all all ::/0 trust\n"
	if err := os.WriteFile(filepath.Join(data, "pg_hba.conf"), []byte(hba), 0o644); err != nil {
		return err
	}
	return w.start(ctx, w.store, netlab.Spec{
		Name: processName(w.store, "postgres"), User: owner.Username, Dir: dir,
		Argv: []string{filepath.Join(bin, "postgres"), "-D", data, "-c", "listen_addresses=*", "-c", "unix_socket_directories=" + dir, "-c", "fsync=off"},
	}, 5432)
}

// postgresBin finds the server programs, which Debian keeps out of PATH.
func postgresBin() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) > 0 {
		return filepath.Dir(slices.Max(found)), nil
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		return "", errors.New("PostgreSQL is not installed: apt-get install postgresql")
	}
	return filepath.Dir(path), nil
}
