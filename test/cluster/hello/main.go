// Command hello is what a test cluster's own smoke test runs in pods: a server that answers with its pod's name, and a client
// for images that hold nothing else.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"time"
)

func main() {
	listen := flag.String("listen", ":8080", "serve the host's name here")
	get := flag.String("get", "", "instead: print what this URL answers")
	flag.Parse()
	if *get != "" {
		client := http.Client{Timeout: 5 * time.Second}
		resp, err := client.Get(*get)
		if err != nil {
			log.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.Copy(os.Stdout, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			log.Fatal(resp.Status, err)
		}
		return
	}
	name, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe(*listen, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, name) })))
}
