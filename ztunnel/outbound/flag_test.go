package outbound

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"testing"

	"github.com/ambit-mesh/ambit/ztunnel/hbone"
	"github.com/ambit-mesh/ambit/ztunnel/inpod"
	"github.com/ambit-mesh/ambit/ztunnel/outcome"
	"github.com/ambit-mesh/ambit/ztunnel/route"
	"github.com/ambit-mesh/ambit/ztunnel/sockets"
	"github.com/ambit-mesh/ambit/ztunnel/telemetry"
)

// Each failure has its flag (ztunnel.md 10.1), and says whether another endpoint may do better.
func TestFailures(t *testing.T) {
	tunnel, app := netip.MustParseAddrPort("10.0.0.1:15008"), netip.MustParseAddrPort("10.0.0.1:80")
	socket := func(op sockets.Op, dst netip.AddrPort, err error) error {
		return &sockets.Error{Op: op, Dst: dst, Err: err}
	}
	for _, tc := range []struct {
		err       error
		flag      telemetry.Flag
		elsewhere bool
	}{
		{socket(sockets.OpConnect, tunnel, os.ErrDeadlineExceeded), telemetry.FlagNetworkPolicy, true},
		{socket(sockets.OpConnect, app, os.ErrDeadlineExceeded), telemetry.FlagConnect, true},
		{socket(sockets.OpConnect, tunnel, syscall.ECONNREFUSED), telemetry.FlagConnect, true},
		{socket(sockets.OpTake, tunnel, sockets.ErrNoSockets), telemetry.FlagConnect, false},
		{socket(sockets.OpTake, tunnel, sockets.ErrUnknownPod), telemetry.FlagConnect, false},
		{identityError{errors.New("no certificate")}, telemetry.FlagIdentity, false},
		{tlsError{errors.New("bad certificate")}, telemetry.FlagTLS, true},
		{&hbone.StatusError{Status: 401}, telemetry.FlagConnect, false},
		{&hbone.StatusError{Status: 400}, telemetry.FlagConnect, false},
		{&hbone.StatusError{Status: 503}, telemetry.FlagConnect, true},
		{hbone.ErrConnLost, telemetry.FlagHTTP2, true},
		{hbone.ErrTimeout, telemetry.FlagHTTP2, true},
		{hbone.ErrLimit, telemetry.FlagHTTP2, true},
		{refusedError{route.NoEndpoints}, telemetry.FlagConnect, true},
		{outcome.Cut{Why: inpod.CausePodGone}, telemetry.FlagConnect, true},
		{errors.New("anything else"), telemetry.FlagConnect, true},
	} {
		wrapped := fmt.Errorf("in context: %w", tc.err)
		if got := flagOf(wrapped); got != tc.flag {
			t.Errorf("%v: flag %s, want %s", tc.err, got, tc.flag)
		}
		if got := elsewhere(wrapped); got != tc.elsewhere {
			t.Errorf("%v: elsewhere %v", tc.err, got)
		}
	}
}
