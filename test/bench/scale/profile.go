package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"time"
)

// profile has the processor profiles of hub and sites taken from now on, for as long as the window, beside what goes on.
func (st *stand) profile(step string) {
	if st.socket == "" {
		return
	}
	st.profiling.Go(func() {
		if err := st.fetch(fmt.Sprintf("profile?seconds=%d", int(st.window.Seconds())), step+"-hub.cpu"); err != nil {
			st.tell("profile: %v", err)
		}
	})
	st.profiling.Go(func() {
		f, err := os.Create(st.profilePath(step + "-sites.cpu"))
		if err == nil {
			defer f.Close()
			err = pprof.StartCPUProfile(f)
		}
		if err != nil {
			st.tell("profile: %v", err)
			return
		}
		time.Sleep(st.window)
		pprof.StopCPUProfile()
	})
}

// heap takes the hub's heap profile as it is after a step, with what was in use when garbage was collected last.
func (st *stand) heap(step string) error {
	if st.socket == "" {
		return nil
	}
	return errors.Join(st.fetch("heap?gc=1", step+"-hub.heap"), st.fetch("goroutine", step+"-hub.goroutines"))
}

func (st *stand) profilePath(name string) string {
	return filepath.Join(st.profiles, fmt.Sprintf("%d-%s", st.n, name))
}

// fetch writes one of the hub's profiles into a file. A hub that is just starting has a moment to listen.
func (st *stand) fetch(what, name string) error {
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", st.socket)
	}}}
	var answer *http.Response
	var err error
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if answer, err = client.Get("http://hub/debug/pprof/" + what); err == nil {
			break
		}
	}
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	f, err := os.Create(st.profilePath(name))
	if err != nil {
		return err
	}
	_, err = io.Copy(f, answer.Body)
	return errors.Join(err, f.Close())
}
