// Command controller runs the control plane: flags become a controller.Config, and its Run becomes an exit code.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/ambit-mesh/ambit/cmd/internal/logging"
	"github.com/ambit-mesh/ambit/cmd/internal/release"
	"github.com/ambit-mesh/ambit/controller"
	"github.com/ambit-mesh/ambit/controller/auth"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(os.Stdout, os.Stderr, controller.Run).ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "controller:", err)
		os.Exit(1)
	}
}

// command makes the command line; run is given what it says.
func command(stdout, stderr io.Writer, run func(context.Context, controller.Config) error) *cobra.Command {
	var cfg controller.Config
	var k controller.Kubernetes
	var inCluster, elect bool
	cfg.Version, _ = release.Version()
	var logs logging.Flags
	cmd := &cobra.Command{
		Use:           "controller",
		Short:         "Turns Kubernetes objects into workload configuration and certificates for the nodes of the mesh",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := logs.Logger(stderr)
			if err != nil {
				return err
			}
			cfg.Log = log
			k.Alone = !elect
			return run(cmd.Context(), complete(cfg, k, inCluster, cmd.Flags().Changed))
		},
	}
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	d := controller.Config{}.Defaults()
	f := cmd.Flags()
	f.BoolVar(&inCluster, "in-cluster", os.Getenv("KUBERNETES_SERVICE_HOST") != "", "use the API server of the cluster this runs in; the default in a pod")
	f.StringVar(&k.Kubeconfig, "kubeconfig", "", "kubeconfig file of the API server to use, in the place of --in-cluster")
	f.StringVar(&k.Namespace, "namespace", os.Getenv("POD_NAMESPACE"), "namespace of this controller, with the lease of its replicas; POD_NAMESPACE, or ambit-system")
	f.BoolVar(&elect, "leader-election", true, "write statuses, root certificates and root rotations only while holding the lease ambit-controller; false if there is one replica only")
	f.DurationVar(&k.LeaseDuration, "lease-duration", 15*time.Second, "how long the lease outlives a leader that died")
	f.DurationVar(&k.RenewDeadline, "lease-renew-deadline", 10*time.Second, "how long a leader writes on without renewing the lease; less than --lease-duration")
	f.DurationVar(&k.RetryPeriod, "lease-retry-period", 2*time.Second, "pace of acquiring and renewing the lease")
	f.StringVar(&k.RootSecret, "root-secret", "istio-ca-secret", "Secret of the root namespace that keeps the self-signed root, made on first use")
	f.StringVar(&k.Audience, "token-audience", auth.Audience, "audience that callers' service account tokens must be for")
	f.StringVar(&cfg.Manifests, "manifests", "", "folder of Kubernetes manifests, in the place of an API server, watched; conditions and problems are written to its status folder")
	f.StringVar(&cfg.CADir, "ca-dir", "", "folder that keeps the self-signed root, made on first use (with --manifests; required unless --cacerts)")
	f.StringVar(&cfg.CACerts, "cacerts", "", "folder of a plugged-in authority, watched: ca-cert.pem, ca-key.pem, root-cert.pem, cert-chain.pem, or tls.crt, tls.key, ca.crt")
	f.StringVar(&cfg.RootFile, "root-cert-file", "", "file to write the root certificates to, for the nodes")
	f.StringArrayVar(&cfg.TokenKeys, "token-key", nil, "public key that node tokens are verified with, PEM; may be given several times (required with --manifests)")
	f.StringVar(&cfg.GRPC, "grpc-address", d.GRPC, "address for xDS and certificates, TLS")
	f.StringVar(&cfg.HTTP, "http-address", d.HTTP, "address for /ready, /metrics and /version")
	f.StringVar(&cfg.Webhook, "webhook-address", "", "address for admission reviews of an API server, TLS, path /validate: Istio's is :15017; empty for none")
	f.StringVar(&cfg.Debug, "debug-address", "127.0.0.1:15016", "loopback address for /debug/... (/debug/list names them) and pprof; empty for none")
	f.StringSliceVar(&cfg.ServerNames, "server-name", nil, "names in the certificate of the grpc and webhook addresses (default ambit-controller's in --namespace and istiod's in --root-namespace)")
	f.StringSliceVar(&cfg.NodeAccounts, "node-account", nil, "accounts (namespace/name) that are node proxies (default ambit-ztunnel in --namespace and ztunnel in --root-namespace)")
	f.DurationVar(&cfg.DefaultTTL, "default-cert-ttl", d.DefaultTTL, "lifetime of certificates whose request names none")
	f.DurationVar(&cfg.MaxTTL, "max-cert-ttl", d.MaxTTL, "longest lifetime a request may name")
	f.DurationVar(&cfg.RootOverlap, "root-overlap", d.RootOverlap, "how long two self-signed roots are trusted before and after the new one signs; no certificate lives longer")
	f.DurationVar(&cfg.RootSettle, "root-settle", d.RootSettle, "added to --root-overlap: how long replicas and nodes may be behind")
	t := &cfg.Translate
	f.StringVar(&t.ClusterID, "cluster-id", d.Translate.ClusterID, "name of the cluster in workload ids")
	f.StringVar(&t.Network, "network", "", "network of the cluster's addresses (default the label topology.istio.io/network of the root namespace)")
	f.StringVar(&t.TrustDomain, "trust-domain", "", "trust domain of all identities (default what MeshConfig says at the start, or cluster.local)")
	f.StringSliceVar(&t.TrustDomainAliases, "trust-domain-alias", nil, "older names of the trust domain, in policies (default MeshConfig's)")
	f.StringVar(&t.RootNamespace, "root-namespace", "", "namespace whose policies hold for the mesh (default MeshConfig's, or istio-system)")
	f.StringVar(&t.ClusterDomain, "cluster-domain", d.Translate.ClusterDomain, "domain of services")
	f.BoolVar(&t.PublishDryRun, "dry-run-policies", true, "send policies annotated istio.io/dry-run; proxies that do not know the field would enforce them")
	p := cmd.PersistentFlags()
	logs.Register(p)
	cmd.AddCommand(tokenCommand())
	return cmd
}

// complete is the configuration that the flags mean together. Being in a cluster counts only if it was asked for, or if there is
// nothing else.
func complete(cfg controller.Config, k controller.Kubernetes, inCluster bool, given func(flag string) bool) controller.Config {
	if k.Kubeconfig != "" || inCluster && (cfg.Manifests == "" || given("in-cluster")) {
		cfg.Kubernetes = &k
	}
	return cfg
}

// tokenCommand makes a node's token by hand; the lab does it through package auth.
func tokenCommand() *cobra.Command {
	var key string
	var ttl time.Duration
	var c auth.Caller
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Makes a node's token with the lab's key, which is made if there is none",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if key == "" || c.Node == "" {
				return errors.New("--key and --node are required")
			}
			signer, err := auth.CreateKey(key)
			if err != nil {
				return err
			}
			token, err := auth.Mint(signer, c, ttl, time.Now())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&key, "key", "", "private key; the public half is kept beside it as <key>.pub (required)")
	f.StringVar(&c.Namespace, "namespace", "ambit-system", "namespace of the service account")
	f.StringVar(&c.ServiceAccount, "service-account", "ambit-ztunnel", "service account")
	f.StringVar(&c.Node, "node", "", "node the token is bound to (required)")
	f.StringVar(&c.Pod, "pod", "", "pod the token is bound to")
	f.DurationVar(&ttl, "ttl", 12*time.Hour, "lifetime")
	return cmd
}
