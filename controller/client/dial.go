package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

// ConnConfig says how to reach the control plane.
type ConnConfig struct {
	// Address is host:port.
	Address string
	// AltName is a further name that the server's certificate may carry besides Address's host.
	AltName string
	// RootFile holds the PEM certificates that the server's chain must end in. It is read at each connection, so it
	// may be replaced at any time.
	RootFile string
	// TokenFile holds the bearer token. It is read for each RPC. Empty: no token is sent.
	TokenFile string
	// ClusterID is sent with each RPC if it is not empty.
	ClusterID string
	// Headers are sent with each RPC.
	Headers map[string]string
	// Dialer replaces TCP in tests. Nil is TCP without MPTCP.
	Dialer func(ctx context.Context, address string) (net.Conn, error)
}

const (
	// MaxMessage bounds a response in bytes (ztunnel.md 6.5: the ceiling of what a server may send at once).
	MaxMessage     = 200 << 20
	maxTokenBytes  = 64 << 10
	maxRootBytes   = 4 << 20
	connectTimeout = 5 * time.Second
	pingEvery      = 30 * time.Second
	pingTimeout    = 10 * time.Second
	// window is how much of a response may be on its way, in bytes; gRPC lets one that is larger come whole once it is awaited. It
	// is fixed, because gRPC would else measure the link with a ping and its answer at nearly every change, on every node.
	window = 1 << 20
)

// Dial makes a gRPC connection to the control plane, TLS only, with the mesh's credentials. It connects when first used
// and reconnects by itself; the caller closes it. The CA client uses it for CreateCertificate.
func Dial(cfg ConnConfig) (*grpc.ClientConn, error) {
	host, _, err := net.SplitHostPort(cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("control plane address %q: %w", cfg.Address, err)
	}
	if cfg.RootFile == "" {
		return nil, errors.New("control plane root certificates: no file named")
	}
	dialer := cfg.Dialer
	if dialer == nil {
		d := &net.Dialer{Timeout: connectTimeout}
		d.SetMultipathTCP(false)
		dialer = func(ctx context.Context, address string) (net.Conn, error) { return d.DialContext(ctx, "tcp", address) }
	}
	names := []string{host}
	if cfg.AltName != "" {
		names = append(names, cfg.AltName)
	}
	conn, err := grpc.NewClient("passthrough:///"+cfg.Address,
		grpc.WithTransportCredentials(&rootFile{path: cfg.RootFile, names: names}),
		grpc.WithPerRPCCredentials(tokenFile{cfg}),
		grpc.WithContextDialer(dialer),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithConnectParams(grpc.ConnectParams{
			MinConnectTimeout: connectTimeout,
			Backoff:           backoff.Config{BaseDelay: firstPause, Multiplier: 2, Jitter: 0.2, MaxDelay: maxPause},
		}),
		grpc.WithStaticStreamWindowSize(window), grpc.WithStaticConnWindowSize(window),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingEvery, Timeout: pingTimeout, PermitWithoutStream: true}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage)),
	)
	if err != nil {
		return nil, fmt.Errorf("control plane connection: %w", err)
	}
	return conn, nil
}

// rootFile is TLS 1.3 against the certificates a file holds at the moment of the handshake.
type rootFile struct {
	path  string
	names []string
}

// ClientHandshake reads the file and shakes hands.
func (r *rootFile) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	roots, err := readRoots(r.path)
	if err != nil {
		return nil, nil, err
	}
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: r.names[0],
		// The standard check knows one name only; verify below makes the same check with several.
		InsecureSkipVerify: true,
		VerifyConnection:   func(cs tls.ConnectionState) error { return verify(cs, roots, r.names) },
	}
	return credentials.NewTLS(cfg).ClientHandshake(ctx, r.names[0], raw)
}

// verify checks chain, validity and name of a server.
func verify(cs tls.ConnectionState, roots *x509.CertPool, names []string) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("server without a certificate")
	}
	intermediates := x509.NewCertPool()
	for _, c := range cs.PeerCertificates[1:] {
		intermediates.AddCert(c)
	}
	leaf := cs.PeerCertificates[0]
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates}); err != nil {
		return fmt.Errorf("server certificate: %w", err)
	}
	var errs []error
	for _, name := range names {
		err := leaf.VerifyHostname(name)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return fmt.Errorf("server certificate: %w", errors.Join(errs...))
}

func readRoots(path string) (*x509.CertPool, error) {
	pem, err := readBounded(path, maxRootBytes)
	if err != nil {
		return nil, fmt.Errorf("control plane root certificates: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("control plane root certificates: no certificate in %s", path)
	}
	return roots, nil
}

func readBounded(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s has %d bytes: want at most %d", path, info.Size(), limit)
	}
	return os.ReadFile(path)
}

// ServerHandshake is not for clients.
func (r *rootFile) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("client credentials used by a server")
}

// Info says that this is TLS.
func (r *rootFile) Info() credentials.ProtocolInfo {
	//lint:ignore SA1019 the authority header is to be the server's name, also where the address is an IP
	return credentials.ProtocolInfo{SecurityProtocol: "tls", ServerName: r.names[0]}
}

// Clone copies.
func (r *rootFile) Clone() credentials.TransportCredentials {
	c := *r
	return &c
}

// OverrideServerName exists for grpc's interface; names come from the configuration only.
func (r *rootFile) OverrideServerName(string) error {
	return errors.New("server names come from the configuration")
}

// tokenFile sends the bearer token that a file holds at the moment of the RPC, and the fixed headers.
type tokenFile struct{ cfg ConnConfig }

// GetRequestMetadata reads the token.
func (t tokenFile) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	md := maps.Clone(t.cfg.Headers)
	if md == nil {
		md = map[string]string{}
	}
	if t.cfg.ClusterID != "" {
		md["clusterid"] = t.cfg.ClusterID
	}
	if t.cfg.TokenFile == "" {
		return md, nil
	}
	token, err := readBounded(t.cfg.TokenFile, maxTokenBytes)
	if err != nil {
		return nil, fmt.Errorf("control plane token: %w", err)
	}
	md["authorization"] = "Bearer " + strings.TrimSpace(string(token))
	return md, nil
}

// RequireTransportSecurity keeps the token off plain text.
func (t tokenFile) RequireTransportSecurity() bool { return true }
