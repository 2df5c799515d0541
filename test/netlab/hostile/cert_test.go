package hostile

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/ambit-mesh/ambit/controller/api/ca"
	"github.com/ambit-mesh/ambit/controller/client"
	"github.com/ambit-mesh/ambit/test/netlab/mesh"
)

// meshFile is a file that the lab keeps for its mesh.
func (w *world) meshFile(name string) string { return filepath.Join(w.lab.Dir(), "mesh", name) }

// token is the file with the token of a node's ztunnel.
func (w *world) token(node string) string { return w.meshFile(mesh.ZtunnelName(node) + ".token") }

// control connects to the controller from the stranger's pod, with a token.
func (w *world) control(t *testing.T, tokenFile string) *grpc.ClientConn {
	t.Helper()
	pod, err := w.lab.Pod(mesh.ControllerPod)
	must(t, err)
	conn, err := client.Dial(client.ConnConfig{
		Address: at(pod, 15012), AltName: "ambit-controller.ambit-system.svc", RootFile: w.meshFile("root-cert.pem"), TokenFile: tokenFile,
		Dialer: func(ctx context.Context, address string) (net.Conn, error) {
			return dial(ctx, w.stranger, address, 3*time.Second)
		},
	})
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// ask asks the lab's CA for a certificate, as a ztunnel does.
func ask(ctx context.Context, conn *grpc.ClientConn, id string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{named(id)}}, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	meta, err := structpb.NewStruct(map[string]any{ca.ImpersonatedIdentity: id})
	if err != nil {
		return tls.Certificate{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	answer, err := ca.NewIstioCertificateServiceClient(conn).CreateCertificate(ctx, &ca.IstioCertificateRequest{
		Csr: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr})), Metadata: meta,
	})
	if err != nil {
		return tls.Certificate{}, err
	}
	out := tls.Certificate{PrivateKey: key}
	for rest := []byte(strings.Join(answer.CertChain[:1], "")); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		out.Certificate = append(out.Certificate, block.Bytes)
	}
	return out, nil
}

// genuine is a certificate of the attacker's own, rightful identity: a stolen one.
func (w *world) genuine(t *testing.T) tls.Certificate {
	t.Helper()
	crt, err := ask(t.Context(), w.control(t, w.token("n1")), "spiffe://cluster.local/ns/safe/sa/attacker")
	must(t, err)
	return crt
}

// forge makes a certificate as nobody should: with the CA's own key if ours, and with whatever content.
func (w *world) forge(t *testing.T, ours bool, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key := newKey(t)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(7), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		URIs: []*url.URL{named(trusted)},
	}
	change(leaf)
	root, signer := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}, newKey(t)
	if ours {
		root, signer = w.authority(t)
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, root, key.Public(), signer)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// authority reads the lab's CA from its disk.
func (w *world) authority(t *testing.T) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	read := func(name string) []byte {
		text, err := os.ReadFile(w.meshFile(filepath.Join("ca", name)))
		must(t, err)
		block, _ := pem.Decode(text)
		if block == nil {
			t.Fatal(errors.New("no PEM in " + name))
		}
		return block.Bytes
	}
	crt, err := x509.ParseCertificate(read("ca-cert.pem"))
	must(t, err)
	key, err := x509.ParsePKCS8PrivateKey(read("ca-key.pem"))
	must(t, err)
	return crt, key.(crypto.Signer)
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

func named(id string) *url.URL {
	u, err := url.Parse(id)
	if err != nil {
		panic(err) // of our own constants
	}
	return u
}
