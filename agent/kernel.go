package agent

import (
	"fmt"
	"net/netip"

	"github.com/ambit-mesh/ambit/agent/api"
	"github.com/ambit-mesh/ambit/agent/datapath"
	"github.com/ambit-mesh/ambit/agent/sockets"
)

// listenerKernel is the datapath in the words of the hand-off protocol.
type listenerKernel interface {
	setListener(addr netip.Addr, kind api.ListenerKind, fd int) error
	tagged(fd int, kind api.ListenerKind) error
}

// fleetKernel is everything that the fleet needs of the datapath.
type fleetKernel interface {
	kernel
	sockets.Tagger
}

// realKernel is the loaded datapath.
type realKernel struct{ *datapath.Datapath }

func role(kind api.ListenerKind) datapath.Role {
	switch kind {
	case api.ListenerKind_OUTBOUND:
		return datapath.RoleOutbound
	case api.ListenerKind_INBOUND:
		return datapath.RoleInbound
	case api.ListenerKind_HBONE:
		return datapath.RoleHBONE
	default:
		return datapath.RoleDNS
	}
}

// TagListener implements sockets.Tagger.
func (k realKernel) TagListener(fd int, kind api.ListenerKind) error { return k.Tag(fd, role(kind)) }

// TagOutgoing implements sockets.Tagger.
func (k realKernel) TagOutgoing(fd int) error { return k.Tag(fd, datapath.RoleOutgoing) }

func (k realKernel) setListener(addr netip.Addr, kind api.ListenerKind, fd int) error {
	return k.SetListener(addr, role(kind), fd)
}

func (k realKernel) tagged(fd int, kind api.ListenerKind) error {
	got, err := k.Tagged(fd)
	if err != nil {
		return err
	}
	if got != role(kind) {
		return fmt.Errorf("listener %s is marked with role %d, want %d", kind, got, role(kind))
	}
	return nil
}
