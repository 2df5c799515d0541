// Package kubetest answers where the API server is that tests may use, and what becomes of a test without one. Only tests
// import it; its functions need no particular goroutine.
package kubetest

import (
	"os"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/ambit-mesh/ambit/test/need"
)

// Server is the real API server that make test-controller starts. It is shared: a test keeps to namespaces of its own. Without
// one the test is skipped, or fails where AMBIT_TEST_REQUIRE asks for it.
func Server(t testing.TB) *rest.Config {
	t.Helper()
	file := os.Getenv("AMBIT_TEST_KUBECONFIG")
	need.That(t, file != "", need.APIServer, "AMBIT_TEST_KUBECONFIG is not set: make test-controller")
	cfg, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}
