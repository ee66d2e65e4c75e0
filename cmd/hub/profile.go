package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"syscall"
	"time"
)

// serveProfiles serves the profiles of package net/http/pprof on a unix socket that nobody but the hub's user can open, until stop is called:
//
//	curl --unix-socket FILE 'http://hub/debug/pprof/profile?seconds=10' -o hub.cpu
//
// A socket that was left over by a hub that was killed is replaced; any other file is not.
func serveProfiles(file string) (stop func(), err error) {
	if info, err := os.Lstat(file); err == nil && info.Mode().Type() == os.ModeSocket {
		if err := os.Remove(file); err != nil {
			return nil, fmt.Errorf("--profile-socket: %w", err)
		}
	}
	// The mode is the socket's from its first moment on: nobody gets in between.
	before := syscall.Umask(0o177)
	listener, err := net.Listen("unix", file)
	syscall.Umask(before)
	if err != nil {
		return nil, fmt.Errorf("--profile-socket: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	return func() {
		_ = server.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintln(os.Stderr, "profiles:", err)
		}
	}, nil
}
