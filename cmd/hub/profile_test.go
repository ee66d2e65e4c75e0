package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestProfilesAreForTheHubsUserAlone(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "profiles")
	for range 2 { // the second finds what a killed hub left
		stop, err := serveProfiles(socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(stop)
		if info, err := os.Stat(socket); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("the socket: %v, %v", info.Mode(), err)
		}
	}
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	answer, err := client.Get("http://hub/debug/pprof/goroutine?debug=1")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if text, err := io.ReadAll(answer.Body); err != nil || !strings.HasPrefix(string(text), "goroutine profile:") {
		t.Errorf("%.80q, %v", text, err)
	}
	file := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := serveProfiles(file); err == nil || !strings.Contains(err.Error(), "--profile-socket") {
		t.Errorf("in the place of a file: %v", err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "mine" {
		t.Errorf("the file holds %q, %v", text, err)
	}
}
