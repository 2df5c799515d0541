package main

import (
	"context"
	"fmt"
	"time"
)

// optOut: a pod that says so stays out of the mesh that its namespace is in, and comes back when it says nothing.
func optOut() Check {
	// labelled changes a pod's label and waits until its redirection is as it follows.
	labelled := func(label, want string) func(context.Context, *World) (string, error) {
		return func(ctx context.Context, w *World) (string, error) {
			if _, err := w.kubectl(ctx, "-n", "inside", "label", "pod", "other", label, "--overwrite"); err != nil {
				return "", err
			}
			if err := poll(ctx, 30*time.Second, func() error {
				all, err := w.pods(ctx, "inside", "app=other", redirection)
				if err == nil && (len(all) != 1 || all[0] != "other="+want) {
					err = fmt.Errorf("%v, want %q", all, want)
				}
				return err
			}); err != nil {
				return "", err
			}
			since := time.Now().Add(-time.Second)
			server, err := w.podIP(ctx, "inside", "app=server")
			if err != nil {
				return "", err
			}
			saw, err := w.in(ctx, "inside/other", "get", "http://"+server+":8080/optout")
			if err != nil {
				return "", err
			}
			ip, err := w.podIP(ctx, "inside", "app=other")
			if err != nil {
				return saw, err
			}
			how := `"plan":"plaintext"`
			if want == "enabled" {
				how = `"src.identity":"spiffe://`
			}
			line, err := w.logged(ctx, "n2", since, `"direction":"inbound"`, `"src.addr":"`+ip+":", how)
			if want == "" {
				return saw + "; plaintext", err
			}
			return saw + "; " + field(line, "src.identity"), err
		}
	}
	return Check{"a pod opts out", []Step{
		{"with the label none it speaks in the clear", labelled("istio.io/dataplane-mode=none", "")},
		{"without the label it is in again", labelled("istio.io/dataplane-mode-", "enabled")},
	}}
}
