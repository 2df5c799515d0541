package controller

import (
	"fmt"

	"github.com/ambit-mesh/ambit/controller/translate"
)

// Where the trust domain came from, as the log says it.
const (
	fromCommandLine = "command line"
	fromMeshConfig  = "MeshConfig"
	fromDefault     = "default"
)

// trustDomain decides the one that this process runs with to its end: what was given, then MeshConfig's as it is at the start,
// then the default. A MeshConfig with errors is no answer: identities of the wrong mesh would be signed until the next restart.
// The text is not looked into if one was given. Aliases and the root namespace may change later, so translate decides those.
func trustDomain(given, mesh string) (name, from string, err error) {
	if given != "" {
		return given, fromCommandLine, nil
	}
	if mesh != "" {
		m, err := translate.ReadMesh(mesh)
		if err != nil {
			return "", "", fmt.Errorf("trust domain, without --trust-domain: %w", err)
		}
		if m.TrustDomain != "" {
			return m.TrustDomain, fromMeshConfig, nil
		}
	}
	return translate.Settings{}.Defaults().TrustDomain, fromDefault, nil
}
