// Package local is how people and programs at the site speak with its agent: HTTP with JSON over a unix socket in the agent's data folder, which
// only the agent's own user and root may use. It works with the hub and without.
//
//	GET    /v1/status              Status
//	GET    /v1/events?limit=50     newest events that are stored, oldest first
//	POST   /v1/busy                {"who":"till","for":"2h","reason":"inventory"}; "for":"0s" takes it back
//	POST   /v1/overrides           {"object":"ConfigMap/shop/a","for":"2h","reason":"…"}
//	DELETE /v1/overrides?object=…
//	POST   /v1/import              a carried file
//	GET    /v1/report              the site's report as a carried file, in base64
//
// A refusal is a status of 400 and more with {"error":"…"}.
package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// SocketName is the socket's name in the data folder.
const SocketName = "agent.sock"

// MaxEvents is the most events that one request gives.
const MaxEvents = 1000

const (
	maxRequest = 64 << 10
	patience   = 10 * time.Second
	// longPatience is for a carried file, which is verified while it is read.
	longPatience = 5 * time.Minute
)

// Status is what the agent knows of its site now.
type Status struct {
	Linked bool            `json:"linked"`
	State  fleetsync.State `json:"state"`
}

// Agent is who answers. Its methods may be called concurrently.
type Agent interface {
	Status(ctx context.Context) (Status, error)
	// Events gives the newest stored events, oldest first.
	Events(limit int) ([]fleetsync.Event, error)
	// Tell gives the agent an input and returns when what follows from it is durable.
	Tell(ctx context.Context, in fleetsync.Input) error
	// Import takes a carried file.
	Import(ctx context.Context, r io.Reader) (Imported, error)
	// Report gives the site's report as a carried file.
	Report(ctx context.Context) ([]byte, error)
}

// Imported is what came of an import.
type Imported struct {
	Assignment uint64 `json:"assignment"` // in the file
	Bundles    int    `json:"bundles"`    // in the file
	Has        uint64 `json:"has"`        // the site's assignment now
}

// busyRequest and overrideRequest are the words for durations.
type busyRequest struct {
	Who    string `json:"who"`
	For    string `json:"for"`
	Reason string `json:"reason,omitempty"`
}

type overrideRequest struct {
	Object string   `json:"object"`
	Paths  []string `json:"paths,omitempty"`
	For    string   `json:"for"`
	Reason string   `json:"reason"`
	Who    string   `json:"who,omitempty"`
}

type problem struct {
	Error string `json:"error"`
}

// Serve answers on the socket in dir until ctx ends.
func Serve(ctx context.Context, dir string, agent Agent) error {
	path := filepath.Join(dir, SocketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) { // an agent that was killed left it
		return fmt.Errorf("local socket: %w", err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("local socket: %w", err)
	}
	// Who connects before this is asked who they are, as everybody. The process's umask would be everybody's, too: a folder made meanwhile had no way in.
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(fmt.Errorf("local socket: %w", err), listener.Close())
	}
	server := &http.Server{
		Handler: handler(agent), ReadHeaderTimeout: patience, ReadTimeout: longPatience, WriteTimeout: longPatience, MaxHeaderBytes: 16 << 10,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, peer{}, peerOf(c))
		},
	}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("local socket: %w", err)
	}
	return nil
}

// peer is who is at the other end of a connection.
type peer struct {
	uid   int
	known bool
}

func peerOf(c net.Conn) peer {
	conn, is := c.(*net.UnixConn)
	if !is {
		return peer{}
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return peer{}
	}
	var who peer
	_ = raw.Control(func(fd uintptr) { who = credentials(int(fd)) })
	return who
}

// may says whether somebody may speak with the agent: its own user, and root.
func (p peer) may() bool { return p.known && (p.uid == 0 || p.uid == os.Geteuid()) }

func handler(agent Agent) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", answer(func(r *http.Request) (any, error) { return agent.Status(r.Context()) }))
	mux.HandleFunc("GET /v1/events", answer(func(r *http.Request) (any, error) {
		limit := 50
		if text := r.FormValue("limit"); text != "" {
			var err error
			if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > MaxEvents {
				return nil, fmt.Errorf("limit %.40q: want 1 to %d", text, MaxEvents)
			}
		}
		return agent.Events(limit)
	}))
	mux.HandleFunc("POST /v1/import", answer(func(r *http.Request) (any, error) { return agent.Import(r.Context(), r.Body) }))
	mux.HandleFunc("GET /v1/report", answer(func(r *http.Request) (any, error) { return agent.Report(r.Context()) }))
	mux.HandleFunc("POST /v1/busy", answer(func(r *http.Request) (any, error) {
		var in busyRequest
		if err := decode(r, &in); err != nil {
			return nil, err
		}
		length, err := time.ParseDuration(in.For)
		if err != nil {
			return nil, fmt.Errorf("for %.40q: want a duration, for example 2h", in.For)
		}
		busy := fleetsync.Busy{Who: in.Who, For: length, Reason: in.Reason}
		if err := busy.Check(); err != nil {
			return nil, err
		}
		return struct{}{}, agent.Tell(r.Context(), busy)
	}))
	mux.HandleFunc("POST /v1/overrides", answer(func(r *http.Request) (any, error) {
		var in overrideRequest
		if err := decode(r, &in); err != nil {
			return nil, err
		}
		length, err := time.ParseDuration(in.For)
		if err != nil {
			return nil, fmt.Errorf("for %.40q: want a duration, for example 2h", in.For)
		}
		set := fleetsync.OverrideSet{Object: in.Object, Paths: in.Paths, For: length, Reason: in.Reason, Who: in.Who}
		if set.Who == "" {
			set.Who = whoOf(r)
		}
		if err := set.Check(); err != nil {
			return nil, err
		}
		return struct{}{}, agent.Tell(r.Context(), set)
	}))
	mux.HandleFunc("DELETE /v1/overrides", answer(func(r *http.Request) (any, error) {
		object := r.FormValue("object")
		status, err := agent.Status(r.Context())
		if err != nil {
			return nil, err
		}
		for _, o := range status.State.Overrides {
			if o.Object == object {
				return struct{}{}, agent.Tell(r.Context(), fleetsync.OverrideClear{Object: object, Who: whoOf(r)})
			}
		}
		return nil, fmt.Errorf("override: there is none of object %.200q", object)
	}))
	return mux
}

func whoOf(r *http.Request) string {
	who, _ := r.Context().Value(peer{}).(peer)
	return fmt.Sprintf("uid %d", who.uid)
}

func decode(r *http.Request, value any) error {
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxRequest+1))
	if err != nil {
		return err
	}
	if len(raw) > maxRequest {
		return fmt.Errorf("the request has more than %d bytes", maxRequest)
	}
	return strict(raw, value)
}

// strict reads exactly one JSON value without unknown fields.
func strict(raw []byte, value any) error {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(value); err != nil {
		return fmt.Errorf("the request is not understood: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("the request is not understood: bytes after it")
	}
	return nil
}

func answer(do func(r *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		who, _ := r.Context().Value(peer{}).(peer)
		if !who.may() {
			w.WriteHeader(http.StatusForbidden)
			_ = json.NewEncoder(w).Encode(problem{"only the agent's own user and root may speak with it"})
			return
		}
		value, err := do(r)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			_ = json.NewEncoder(w).Encode(problem{err.Error()})
			return
		}
		_ = json.NewEncoder(w).Encode(value)
	}
}
