// Package kubetest answers where the API server is that tests may use, and what becomes of a test without one. Only tests
// import it; its functions need no particular goroutine.
package kubetest

import (
	"os"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Server is the real API server that make test-controller starts. It is shared: a test keeps to namespaces of its own. Without
// one the test is skipped, or fails where AMBIT_TEST_REQUIRE asks for it.
func Server(t testing.TB) *rest.Config {
	t.Helper()
	file := os.Getenv("AMBIT_TEST_KUBECONFIG")
	if file == "" {
		if strings.Contains(os.Getenv("AMBIT_TEST_REQUIRE"), "apiserver") {
			t.Fatal("AMBIT_TEST_KUBECONFIG is not set")
		}
		t.Skip("needs an API server: make test-controller")
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}
