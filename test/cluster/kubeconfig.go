package main

import (
	"encoding/base64"
	"fmt"
	"os"
)

// kubeconfig writes a file with which the holder of certificate name talks to the API server. It holds everything in
// itself, so that it may be copied.
func (ca *CA) kubeconfig(path, server, name string) error {
	cert, err := os.ReadFile(ca.file(name + ".crt"))
	if err != nil {
		return err
	}
	key, err := os.ReadFile(ca.file(name + ".key"))
	if err != nil {
		return err
	}
	b64 := base64.StdEncoding.EncodeToString
	return os.WriteFile(path, fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: ambit-test
contexts:
- name: ambit-test
  context: {cluster: ambit-test, user: %[1]s}
clusters:
- name: ambit-test
  cluster:
    server: %[2]s
    certificate-authority-data: %[3]s
users:
- name: %[1]s
  user:
    client-certificate-data: %[4]s
    client-key-data: %[5]s
`, name, server, b64(ca.PEM), b64(cert), b64(key)), 0o600)
}
