package hostile

import (
	"fmt"
	"testing"
	"time"
)

func TestHostileUsers(t *testing.T) {
	w := newWorld(t)
	w.toVictim = newBystander(t, w.client, w.victim)
	w.toNeighbour = newBystander(t, w.client, w.neighbour)
	w.bare = newBystander(t, w.stranger, w.neighbour)
	before := w.size(t)

	for _, attack := range []struct {
		name    string
		mostMiB int // that any process of the mesh may grow meanwhile
		run     func(t *testing.T)
	}{
		{"handshake", 48, w.handshakes},
		{"frames", 48, w.frames},
		{"connect", 48, w.connects},
		{"streams", 48, w.streams},
		{"ports", 48, w.ports},
		{"stall", 48, w.stalls},
		{"slow reader", 96, w.slowReader},
		{"half open", 64, w.halfOpen},
		{"names", 48, w.names},
		{"lies", 48, w.lies},
		{"squatting", 48, w.squatting},
		{"forged lines", 48, w.forgedLines},
		{"manifests", 128, w.manifests}, // YAML is parsed whole, and values refer to it
		{"contradictions", 48, w.contradictions},
		{"tokens", 48, w.tokens},
		{"plugin", 48, w.plugin},
		{"sockets", 48, w.sockets},
	} {
		w.attack(t, attack.name, attack.mostMiB, attack.run)
	}

	t.Run("afterwards", func(t *testing.T) { // nothing is kept of any of them
		w.poll(t, 20*time.Second, func() error {
			for node, now := range w.size(t) {
				if most := before[node]; now.tunnels > most.tunnels+4 || now.goroutines > most.goroutines+100 || now.handshakes > 0 || now.queued > 0 {
					return fmt.Errorf("ztunnel on %s: %+v, and before the attacks %+v", node, now, most)
				}
			}
			return nil
		})
	})
}

// size is what a ztunnel holds.
type size struct{ tunnels, goroutines, handshakes, queued float64 }

func (w *world) size(t *testing.T) map[string]size {
	t.Helper()
	all := map[string]size{}
	for _, node := range []string{"n1", "n2"} {
		m, err := w.mesh.Metrics(t.Context(), node)
		must(t, err)
		all[node] = size{
			tunnels: m.Sum("ambit_ztunnel_hbone_tunnels", nil), goroutines: m.Sum("go_goroutines", nil),
			handshakes: m.Sum("ambit_ztunnel_hbone_handshakes", nil), queued: m.Sum("ambit_ztunnel_hbone_queued_bytes", nil),
		}
	}
	return all
}
