package controller

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/ambit-mesh/ambit/controller/api/authz"
	"github.com/ambit-mesh/ambit/controller/api/workload"
	"github.com/ambit-mesh/ambit/controller/auth"
	"github.com/ambit-mesh/ambit/controller/client"
	"github.com/ambit-mesh/ambit/controller/kube/kubetest"
	"github.com/ambit-mesh/ambit/controller/translate"
)

// cluster is the real API server that make test-controller starts, with namespaces of this test's own.
type cluster struct {
	t            *testing.T
	cfg          *rest.Config
	api          kubernetes.Interface
	system, root string
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	cfg := kubetest.Server(t)
	cfg.QPS = -1
	api, err := kubernetes.NewForConfig(cfg)
	must(t, err)
	c := &cluster{t: t, cfg: cfg, api: api}
	c.system, c.root = c.namespace("system"), c.namespace("root")
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) namespace(what string) string {
	c.t.Helper()
	ns, err := c.api.CoreV1().Namespaces().Create(c.t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		GenerateName: "ambit-" + what + "-", Labels: map[string]string{"istio.io/dataplane-mode": "ambient"},
	}}, metav1.CreateOptions{})
	must(c.t, err)
	c.t.Cleanup(func() {
		_ = c.api.CoreV1().Namespaces().Delete(context.WithoutCancel(c.t.Context()), ns.Name, metav1.DeleteOptions{})
	})
	return ns.Name
}

// grant applies deploy/chart/ambit/files/controller-rbac.yaml to this test's namespaces.
func (c *cluster) grant() {
	c.t.Helper()
	text, err := os.ReadFile("../deploy/chart/ambit/files/controller-rbac.yaml")
	must(c.t, err)
	text = bytes.ReplaceAll(text, []byte("namespace: ambit-system"), []byte("namespace: "+c.system))
	text = bytes.ReplaceAll(text, []byte("namespace: istio-system"), []byte("namespace: "+c.root))
	objs, err := dynamic.NewForConfig(c.cfg)
	must(c.t, err)
	for docs := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096); ; {
		o := &unstructured.Unstructured{}
		if err := docs.Decode(&o.Object); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			c.t.Fatal(err)
		}
		gvk := o.GroupVersionKind()
		r := objs.Resource(schema.GroupVersionResource{Group: gvk.Group, Version: gvk.Version, Resource: strings.ToLower(gvk.Kind) + "s"})
		if strings.HasPrefix(gvk.Kind, "Cluster") { // others may have granted the same
			o.SetName(o.GetName() + "-" + c.system)
			if gvk.Kind == "ClusterRoleBinding" {
				must(c.t, unstructured.SetNestedField(o.Object, o.GetName(), "roleRef", "name"))
			}
			_, err = r.Create(c.t.Context(), o, metav1.CreateOptions{})
			c.t.Cleanup(func() { _ = r.Delete(context.WithoutCancel(c.t.Context()), o.GetName(), metav1.DeleteOptions{}) })
		} else {
			_, err = r.Namespace(o.GetNamespace()).Create(c.t.Context(), o, metav1.CreateOptions{})
		}
		must(c.t, err)
	}
}

func (c *cluster) token(account string, bound *authenticationv1.BoundObjectReference, audience ...string) string {
	c.t.Helper()
	res, err := c.api.CoreV1().ServiceAccounts(c.system).CreateToken(c.t.Context(), account, &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{Audiences: audience, BoundObjectRef: bound},
	}, metav1.CreateOptions{})
	must(c.t, err)
	return res.Status.Token
}

// kubeconfig is one with the rights of the controller's own account.
func (c *cluster) kubeconfig() string {
	c.t.Helper()
	cfg := clientcmdapi.NewConfig()
	cluster := &clientcmdapi.Cluster{Server: c.cfg.Host, CertificateAuthority: c.cfg.CAFile, CertificateAuthorityData: c.cfg.CAData, TLSServerName: c.cfg.ServerName}
	cfg.Clusters["c"], cfg.AuthInfos["u"] = cluster, &clientcmdapi.AuthInfo{Token: c.token("ambit-controller", nil)}
	cfg.Contexts["x"], cfg.CurrentContext = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}, "x"
	path := filepath.Join(c.t.TempDir(), "kubeconfig")
	must(c.t, clientcmd.WriteToFile(*cfg, path))
	return path
}

func (c *cluster) pod(namespace, name, account, ip string) *corev1.Pod {
	c.t.Helper()
	pods := c.api.CoreV1().Pods(namespace)
	var p *corev1.Pod
	c.until("pod "+name, func() (ok bool) { // accounts are made a little after their namespace
		var err error
		p, err = pods.Create(c.t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}},
			Spec:       corev1.PodSpec{NodeName: "n1", ServiceAccountName: account, Containers: []corev1.Container{{Name: "c", Image: "none"}}},
		}, metav1.CreateOptions{})
		return err == nil
	})
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: "True"}}}
	p, err := pods.UpdateStatus(c.t.Context(), p, metav1.UpdateOptions{})
	must(c.t, err)
	return p
}

func (c *cluster) until(what string, ok func() bool) {
	c.t.Helper()
	for limit := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(limit) {
			c.t.Fatal("not within a minute: ", what)
		}
		<-time.After(50 * time.Millisecond)
	}
}

// instance is a controller in this process.
type instance struct {
	grpc, http string
	log        *lockedBuffer
	stop       func()
}

func (c *cluster) controller(kubeconfig string) *instance {
	c.t.Helper()
	r := &instance{log: &lockedBuffer{}}
	type addrs struct{ grpc, http net.Addr }
	up, ended := make(chan addrs, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.t.Context()))
	go func() {
		ended <- Run(ctx, Config{
			Log:  slog.New(slog.NewTextHandler(r.log, nil)),
			GRPC: "127.0.0.1:0", HTTP: "127.0.0.1:0", Version: "test", NodeAccounts: []string{c.system + "/ambit-ztunnel"},
			Kubernetes: &Kubernetes{Kubeconfig: kubeconfig, Namespace: c.system, LeaseDuration: 6 * time.Second, RenewDeadline: 4 * time.Second, RetryPeriod: time.Second},
			Translate:  translate.Settings{RootNamespace: c.root},
			Listening:  func(g, h, _ net.Addr) { up <- addrs{g, h} },
		})
	}()
	select {
	case a := <-up:
		r.grpc, r.http = a.grpc.String(), a.http.String()
	case err := <-ended:
		c.t.Fatalf("controller: %v\n%s", err, r.log)
	case <-time.After(time.Minute):
		c.t.Fatalf("controller does not start\n%s", r.log)
	}
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			c.t.Errorf("controller: %v", err)
		}
	}
	c.t.Cleanup(func() {
		r.stop()
		if c.t.Failed() {
			c.t.Log(r.log)
		}
	})
	return r
}

// leads reports that a replica holds the lease.
func (r *instance) leads(t *testing.T) bool {
	t.Helper()
	res, err := http.Get("http://" + r.http + "/metrics")
	must(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	must(t, err)
	return bytes.Contains(text, []byte("ambit_controller_leader 1\n"))
}

// TestKubernetes: two replicas on a real API server, with just the rights of deploy/chart/ambit/files/controller-rbac.yaml. Both configure node proxies that
// come with their pods' tokens and verify them by the ConfigMap; one writes, and when it goes, the other.
func TestKubernetes(t *testing.T) {
	c := newCluster(t)
	c.grant()
	kubeconfig := c.kubeconfig()
	_, err := c.api.CoreV1().ServiceAccounts(c.system).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "ambit-ztunnel"}}, metav1.CreateOptions{})
	must(t, err)
	shop := c.namespace("shop")
	c.pod(shop, "web", "default", "10.9.1.1")
	proxy := c.pod(c.system, "ztunnel", "ambit-ztunnel", "10.9.1.2")
	token := filepath.Join(t.TempDir(), "token")
	bound := &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: proxy.Name, UID: proxy.UID}
	must(t, os.WriteFile(token, []byte(c.token("ambit-ztunnel", bound, auth.Audience)), 0o600))

	replicas := []*instance{c.controller(kubeconfig), c.controller(kubeconfig)}
	for _, r := range replicas {
		c.until("ready", func() bool {
			res, err := http.Get("http://" + r.http + "/ready")
			must(t, err)
			defer res.Body.Close()
			return res.StatusCode == http.StatusOK
		})
	}
	roots := filepath.Join(t.TempDir(), "root-cert.pem")
	c.until("the roots in a namespace", func() bool {
		m, err := c.api.CoreV1().ConfigMaps(shop).Get(t.Context(), "istio-ca-root-cert", metav1.GetOptions{})
		return err == nil && os.WriteFile(roots, []byte(m.Data["root-cert.pem"]), 0o600) == nil
	})
	if secret, err := c.api.CoreV1().Secrets(c.root).Get(t.Context(), "istio-ca-secret", metav1.GetOptions{}); err != nil || secret.Type != "istio.io/ca-root" {
		t.Errorf("the root's secret: %v", err)
	}

	uid := "Kubernetes//Pod/" + shop + "/web"
	for i, r := range replicas {
		node, err := client.Node(client.NodeConfig{Pod: "ztunnel", Namespace: c.system, Node: "n1"})
		must(t, err)
		k := &keeper{addr: map[string]*workload.Address{}, pol: map[string]bool{}, came: make(chan struct{}, 1)}
		cl := client.New(client.Config{
			Conn: client.ConnConfig{Address: r.grpc, AltName: "ambit-controller." + c.system + ".svc", RootFile: roots, TokenFile: token},
			Node: node, Types: []client.Type{{URL: workload.AddressTypeURL}, {URL: authz.TypeURL}}, Handler: k, Log: slog.New(slog.NewTextHandler(r.log, nil)),
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- cl.Run(ctx) }()
		k.until(t, func() bool { return k.addr[uid] != nil })
		name := []string{"first", "second"}[i]
		_, err = c.api.CoreV1().Services(shop).Create(t.Context(), &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"istio.io/use-waypoint": "none-there"}},
			Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80}}},
		}, metav1.CreateOptions{})
		must(t, err)
		k.until(t, func() bool { return k.addr[shop+"/"+name+"."+shop+".svc.cluster.local"] != nil })
		cancel()
		<-ended
	}
	told := func(service string) func() bool {
		return func() bool {
			s, err := c.api.CoreV1().Services(shop).Get(t.Context(), service, metav1.GetOptions{})
			must(t, err)
			for _, cond := range s.Status.Conditions {
				if cond.Type == "istio.io/WaypointBound" && cond.Status == metav1.ConditionFalse {
					return true
				}
			}
			return false
		}
	}
	c.until("conditions", func() bool { return told("first")() && told("second")() })

	var rest []*instance
	for _, r := range replicas {
		if r.leads(t) {
			r.stop()
		} else {
			rest = append(rest, r)
		}
	}
	if len(rest) != 1 {
		t.Fatalf("%d of two do not lead", len(rest))
	}
	c.until("the other leads", func() bool { return rest[0].leads(t) })
	_, err = c.api.CoreV1().Services(shop).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "third", Labels: map[string]string{"istio.io/use-waypoint": "none-there"}}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	must(t, err)
	c.until("a condition by the other", told("third"))
	late := c.namespace("late")
	c.until("the roots in a new namespace", func() bool {
		m, err := c.api.CoreV1().ConfigMaps(late).Get(t.Context(), "istio-ca-root-cert", metav1.GetOptions{})
		have, rerr := os.ReadFile(roots)
		return err == nil && rerr == nil && m.Data["root-cert.pem"] == string(have)
	})
	if text := rest[0].log.String(); strings.Contains(text, "forbidden") {
		t.Errorf("rights are missing:\n%s", text)
	}
}

// TestMeshTrustDomain: an existing mesh's trust domain holds from the first certificate on, and cannot change under a running process.
func TestMeshTrustDomain(t *testing.T) {
	c := newCluster(t)
	c.grant()
	maps := c.api.CoreV1().ConfigMaps(c.root)
	mesh := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "istio"}, Data: map[string]string{"mesh": "trustDomain: corp.example\n"}}
	_, err := maps.Create(t.Context(), mesh, metav1.CreateOptions{})
	must(t, err)
	r := c.controller(c.kubeconfig())
	if want := "trust_domain=corp.example trust_domain_from=MeshConfig"; !strings.Contains(r.log.String(), want) {
		t.Errorf("the log does not say %q", want)
	}
	mesh.Data["mesh"] = "trustDomain: other.example\n"
	_, err = maps.Update(t.Context(), mesh, metav1.UpdateOptions{})
	must(t, err)
	c.until("told to restart", func() bool {
		return strings.Contains(r.log.String(), "this process runs with corp.example and must be restarted")
	})
}
