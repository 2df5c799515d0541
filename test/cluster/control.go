package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Control is a control plane: etcd, the API server, the controller manager, and with nodes the scheduler.
type Control struct {
	Dir     string // all its files; also the mark of its processes
	Binary  string // the multi-call Kubernetes program
	Address string // where the API server listens
	Port    int

	ServiceRange string // CIDR, or two with a comma
	APIService   string // first address of it: kubernetes.default
	PodRange     string // empty: there are no nodes, and nothing that would look for them
	// Controllers of the controller manager, as its --controllers; empty: all of them.
	Controllers string

	ca   *CA
	etcd string // client URL
}

// Kubeconfig is the administrator's.
func (c *Control) Kubeconfig() string { return filepath.Join(c.Dir, "kubeconfig") }

func (c *Control) server() string {
	return "https://" + net.JoinHostPort(c.Address, strconv.Itoa(c.Port))
}

// start makes certificates and runs the programs until they say that they are ready.
func (c *Control) start(ctx context.Context) error {
	if err := c.credentials(); err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	etcd, err := c.startEtcd()
	if err != nil {
		return err
	}
	apiserver, err := start(c.Dir, "kube-apiserver", append([]string{c.Binary}, c.apiserverArgs()...))
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	if err := etcd.until(ctx, healthy(http.DefaultClient, c.etcd+"/readyz")); err != nil {
		return err
	}
	if err := apiserver.until(ctx, healthy(client, c.server()+"/readyz")); err != nil {
		return err
	}
	if _, err := start(c.Dir, "kube-controller-manager", append([]string{c.Binary}, c.managerArgs()...)); err != nil {
		return err
	}
	if c.PodRange == "" {
		return nil
	}
	_, err = start(c.Dir, "kube-scheduler", []string{c.Binary, "kube-scheduler", "--kubeconfig=" + c.file("kube-scheduler.kubeconfig"), "--leader-elect=false"})
	return err
}

func (c *Control) file(name string) string { return filepath.Join(c.Dir, name) }

func (c *Control) credentials() (err error) {
	if c.ca, err = newCA(c.file("pki")); err != nil {
		return err
	}
	if err := c.ca.signingKey("service-accounts"); err != nil {
		return err
	}
	for name, s := range map[string]Subject{
		"kube-apiserver": {User: "kube-apiserver", Hosts: []string{
			c.Address, "127.0.0.1", c.APIService, "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
		}},
		"apiserver-kubelet-client": {User: "kube-apiserver-kubelet-client", Group: "system:masters"},
		"admin":                    {User: "admin", Group: "system:masters"},
		"kube-controller-manager":  {User: "system:kube-controller-manager"},
		"kube-scheduler":           {User: "system:kube-scheduler"},
		"kube-proxy":               {User: "system:kube-proxy"},
	} {
		if err := c.ca.issue(name, s); err != nil {
			return err
		}
	}
	for _, name := range []string{"kube-controller-manager", "kube-scheduler", "kube-proxy"} {
		if err := c.ca.kubeconfig(c.file(name+".kubeconfig"), c.server(), name); err != nil {
			return err
		}
	}
	return c.ca.kubeconfig(c.Kubeconfig(), c.server(), "admin")
}

// startEtcd runs it on loopback, without waiting for the disk: the data need not outlive the machine.
func (c *Control) startEtcd() (*Process, error) {
	client, err := freePort()
	if err != nil {
		return nil, err
	}
	peer, err := freePort()
	if err != nil {
		return nil, err
	}
	c.etcd = fmt.Sprintf("http://127.0.0.1:%d", client)
	peerURL := fmt.Sprintf("http://127.0.0.1:%d", peer)
	return start(c.Dir, "etcd", []string{
		c.Binary, "etcd", "--name=test", "--data-dir=" + c.file("etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls=" + c.etcd, "--advertise-client-urls=" + c.etcd,
		"--listen-peer-urls=" + peerURL, "--initial-advertise-peer-urls=" + peerURL, "--initial-cluster=test=" + peerURL,
	})
}

func (c *Control) apiserverArgs() []string {
	pki := c.ca.file
	args := []string{
		"kube-apiserver", "--etcd-servers=" + c.etcd,
		"--bind-address=" + c.Address, "--secure-port=" + strconv.Itoa(c.Port), "--advertise-address=" + c.Address,
		"--tls-cert-file=" + pki("kube-apiserver.crt"), "--tls-private-key-file=" + pki("kube-apiserver.key"),
		"--client-ca-file=" + pki("ca.crt"), "--service-cluster-ip-range=" + c.ServiceRange,
		"--kubelet-client-certificate=" + pki("apiserver-kubelet-client.crt"), "--kubelet-client-key=" + pki("apiserver-kubelet-client.key"),
		"--kubelet-certificate-authority=" + pki("ca.crt"), "--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=" + pki("service-accounts.pub"),
		"--service-account-signing-key-file=" + pki("service-accounts.key"),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
		"--profiling=false", "--v=1",
	}
	if c.PodRange == "" { // a loopback address may not be an endpoint of Service kubernetes
		return append(args, "--endpoint-reconciler-type=none")
	}
	return append(args, "--enable-aggregator-routing") // webhooks by their endpoints: no kube-proxy serves the machine
}

func (c *Control) managerArgs() []string {
	args := []string{
		"kube-controller-manager", "--kubeconfig=" + c.file("kube-controller-manager.kubeconfig"), "--leader-elect=false",
		"--use-service-account-credentials", "--root-ca-file=" + c.ca.file("ca.crt"),
		"--service-account-private-key-file=" + c.ca.file("service-accounts.key"), "--secure-port=0",
		"--cluster-signing-cert-file=" + c.ca.file("ca.crt"), "--cluster-signing-key-file=" + c.ca.file("ca.key"),
	}
	if c.Controllers != "" {
		args = append(args, "--controllers="+c.Controllers)
	}
	if c.PodRange != "" {
		args = append(args, "--cluster-cidr="+c.PodRange, "--service-cluster-ip-range="+c.ServiceRange)
	}
	return args
}

// client speaks to the API server as the administrator.
func (c *Control) client() (*http.Client, error) {
	cert, err := tls.LoadX509KeyPair(c.file("pki/admin.crt"), c.file("pki/admin.key"))
	if err != nil {
		return nil, err
	}
	roots, err := os.ReadFile(c.file("pki/ca.crt"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(roots)
	return &http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: pool}},
	}, nil
}

// healthy asks a URL for 200.
func healthy(client *http.Client, url string) func(context.Context) error {
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s: %s", url, resp.Status, strings.TrimSpace(string(body)))
		}
		return nil
	}
}

// freePort is a TCP port of loopback that nobody used a moment ago.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// running reports whether a control plane of this folder answers.
func (c *Control) running(ctx context.Context) bool {
	if _, err := os.Stat(c.Kubeconfig()); err != nil {
		return false
	}
	_, err := c.kubectl(ctx, nil, "get", "--raw", "/readyz", "--request-timeout=3s")
	return err == nil
}
