package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
)

// kubelet plays the node's kubelet as far as the mesh sees it: a process in the node's own network namespace that probes
// pods. It takes orders on a Unix socket: GET /?probe=URL, where URL is http://ip:port/path or tcp://ip:port, and answers
// with the probe's outcome.
func kubelet(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("kubelet", flag.ContinueOnError)
	socket := flags.String("socket", "", "Unix socket to take orders on")
	if err := flags.Parse(args); err != nil {
		return err
	}
	_ = os.Remove(*socket)
	ln, err := net.Listen("unix", *socket)
	if err != nil {
		return err
	}
	fmt.Println("listening", *socket)
	server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		outcome, err := probeOnce(r.Context(), r.URL.Query().Get("probe"))
		fmt.Printf("probe url=%s outcome=%q err=%v\n", r.URL.Query().Get("probe"), outcome, err)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		fmt.Fprintln(w, outcome)
	})}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// probe asks the kubelet to probe, or probes itself: then it is just another process of the host.
func probe(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("probe", flag.ContinueOnError)
	socket := flags.String("kubelet", "", "the kubelet's socket; empty: probe oneself")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *socket == "" {
		outcome, err := probeOnce(ctx, flags.Arg(0))
		if err == nil {
			fmt.Println(outcome)
		}
		return err
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", *socket)
	}}}
	answer, err := client.Get("http://kubelet/?probe=" + url.QueryEscape(flags.Arg(0)))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", body)
	}
	fmt.Printf("%s", body)
	return err
}

// get prints what a URL holds; a status other than 200 is an error.
func get(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("want one URL")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, args[0], nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", args[0], answer.Status)
	}
	_, err = io.Copy(os.Stdout, answer.Body)
	return err
}

// probeOnce is one probe with the kubelet's ways: 1 s, a new connection each time, any status below 400 is healthy.
func probeOnce(ctx context.Context, target string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	u, err := url.Parse(target)
	if err != nil {
		return "", err
	}
	if u.Scheme == "tcp" {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
		if err != nil {
			return "", err
		}
		return "connected", conn.Close()
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("User-Agent", "kube-probe/ambit-lab")
	answer, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	if answer.StatusCode >= http.StatusBadRequest {
		return "", fmt.Errorf("status %s", answer.Status)
	}
	return answer.Status, nil
}
