package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/ambit-mesh/ambit/controller/auth"
	"github.com/ambit-mesh/ambit/test/netlab"
)

// files of the mesh in the lab's folder.
func (m *Mesh) dir() string      { return filepath.Join(m.lab.Dir(), "mesh") }
func (m *Mesh) tokenKey() string { return filepath.Join(m.dir(), "token.key") }
func (m *Mesh) roots() string    { return filepath.Join(m.dir(), "root-cert.pem") }
func (m *Mesh) token(node string) string {
	return filepath.Join(m.dir(), ZtunnelName(node)+".token")
}

// ztunnelUID is the user that ztunnels run as.
const ztunnelUID = 1337

// mintTokens gives each node's ztunnel a signed token, as the kubelet projects one into its pod.
func (m *Mesh) mintTokens(nodes []netlab.Node) error {
	key, err := auth.CreateKey(m.tokenKey())
	if err != nil {
		return err
	}
	for _, node := range nodes {
		pod, err := m.lab.Pod(ZtunnelPod(node.Name))
		if err != nil {
			return err
		}
		token, err := auth.Mint(key, auth.Caller{
			Namespace: Namespace, ServiceAccount: "ambit-ztunnel", Node: node.Name, Pod: pod.Name, PodUID: pod.UID,
		}, 12*time.Hour, time.Now())
		if err != nil {
			return fmt.Errorf("token of %s: %w", pod.Ref(), err)
		}
		file := m.token(node.Name)
		if err := errors.Join(os.WriteFile(file, []byte(token), 0o400), os.Chown(file, ztunnelUID, ztunnelUID)); err != nil {
			return fmt.Errorf("token of %s: %w", pod.Ref(), err)
		}
	}
	return nil
}

// StartController starts the controller in its pod and waits until it serves.
func (m *Mesh) StartController(ctx context.Context) error {
	program, err := m.lab.Bin("ambit-controller")
	if err != nil {
		return err
	}
	argv := []string{
		program, "--manifests", m.lab.Manifests(), "--ca-dir", filepath.Join(m.dir(), "ca"), "--root-cert-file", m.roots(),
		"--token-key", m.tokenKey() + ".pub",
	}
	if ttl := m.opts.CertTTL; ttl > 0 {
		argv = append(argv, "--default-cert-ttl", ttl.String())
	}
	p, err := m.lab.Start(netlab.Spec{Name: ControllerName, Pod: ControllerPod, Argv: argv})
	if err != nil {
		return err
	}
	return m.lab.WaitListening(ctx, p, 15012, time.Minute)
}

// controllerAddress is where ztunnels find the controller. There is no Service routing in the lab: it is the pod itself.
func (m *Mesh) controllerAddress() (string, error) {
	pod, err := m.lab.Pod(ControllerPod)
	return net.JoinHostPort(pod.IP4().String(), "15012"), err
}
