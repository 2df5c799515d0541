package mesh

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ambit-mesh/ambit/test/netlab"
)

// handoffDir is where a node's agent and its ztunnel meet; the ztunnel's user owns it and nobody else may enter.
func (m *Mesh) handoffDir(node string) string { return filepath.Join(m.lab.NodeDir(node), "handoff") }

// ZtunnelCgroup is the cgroup that a node's ztunnel runs in.
func (m *Mesh) ZtunnelCgroup(node string) (string, error) {
	return m.lab.CgroupOf(netlab.Spec{Name: ZtunnelName(node), Pod: ZtunnelPod(node)})
}

// StartZtunnel starts a node's ztunnel in its pod, without privileges, and waits until it is ready.
func (m *Mesh) StartZtunnel(ctx context.Context, node string) error {
	program, err := m.lab.Bin("ambit-ztunnel")
	if err != nil {
		return err
	}
	pod, err := m.lab.Pod(ZtunnelPod(node))
	if err != nil {
		return err
	}
	controller, err := m.controllerAddress()
	if err != nil {
		return err
	}
	if err := m.makeHandoffDir(node); err != nil {
		return err
	}
	dns, err := m.lab.DNS()
	if err != nil {
		return err
	}
	argv := []string{
		program, "--node", node, "--pod", pod.Name, "--namespace", Namespace, "--ip", pod.IP4().String(),
		"--handoff", filepath.Join(m.handoffDir(node), "handoff.sock"),
		"--xds-address", controller, "--xds-root-ca", m.roots(), "--alt-xds-hostname", controllerName, "--alt-ca-hostname", controllerName,
		"--auth-token", m.token(node), "--dns-servers", dns,
		"--mesh-ranges", strings.Join(append(netlab.PodNetworks(), netlab.ServiceNetworks()...), ","),
	}
	if ttl := m.opts.CertTTL; ttl > 0 {
		argv = append(argv, "--secret-ttl", ttl.String())
	}
	if _, err := m.lab.Start(netlab.Spec{
		Name: ZtunnelName(node), Pod: ZtunnelPod(node), Argv: argv, User: strconv.Itoa(ztunnelUID), NoPrivileges: true, Dir: "/",
	}); err != nil {
		return err
	}
	return m.WaitReady(ctx, node, time.Minute)
}

// controllerName is the name in the controller's certificate: it is reached by address here.
const controllerName = "ambit-controller.ambit-system.svc"

func (m *Mesh) makeHandoffDir(node string) error {
	dir := m.handoffDir(node)
	err := errors.Join(os.MkdirAll(dir, 0o700), os.Chown(dir, ztunnelUID, ztunnelUID))
	if err != nil {
		return fmt.Errorf("hand-off folder of %s: %w", node, err)
	}
	return nil
}
