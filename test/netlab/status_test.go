package netlab_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ambit-mesh/ambit/test/netlab"
	"github.com/ambit-mesh/ambit/test/netlab/mesh"
)

// `ambit status` in the controller's pod shows both ztunnels with everything accepted.
func TestStatusOfTheZtunnels(t *testing.T) {
	s := newSmall(t, "status")
	synced := func() error {
		out, err := s.lab.Exec(s.Context(), netlab.Spec{Pod: mesh.ControllerPod, Argv: []string{"ambit", "status"}})
		if err := errors.Join(err, out.Err()); err != nil {
			return err
		}
		rows := strings.Split(strings.TrimSpace(out.Stdout), "\n")[1:]
		if len(rows) != 2 {
			return fmt.Errorf("want two clients:\n%s", out.Stdout)
		}
		for i, row := range rows {
			if node := fmt.Sprintf("n%d", i+1); !strings.HasPrefix(row, mesh.ZtunnelName(node)) || strings.Count(row, " SYNCED ") != 2 {
				return fmt.Errorf("not the ztunnel of %s, or not up to date:\n%s", node, out.Stdout)
			}
		}
		return nil
	}
	s.eventually("both ztunnels are up to date", synced)
}
