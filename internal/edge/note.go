package edge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/internal/kube"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// Notebook keeps the site's note in its cluster. It may be used by many goroutines.
type Notebook interface {
	// Read gives the note; no bytes: there is none.
	Read(ctx context.Context) ([]byte, error)
	// Write puts a note in the place of what Read or Write saw last, or is errNoteChanged.
	Write(ctx context.Context, note []byte) error
}

var errNoteChanged = errors.New("somebody else wrote the note")

// NoteName is the ConfigMap that keeps the note, in the namespace of the agent's pod. Outside a pod it is noteNamespace/NoteName-SITE.
const (
	NoteName      = "holdfast-edge-note"
	noteNamespace = "kube-system" // it is everywhere, and no bundle may touch it
	noteKey       = "note.json"
)

const hintNote = "deploy/edge has the ConfigMap and the role for it, and --note names another one"

// noteAt is where the note is kept.
func (c Config) noteAt(site bundle.SiteID) (kube.Note, error) {
	at := kube.Note{Namespace: c.Namespace, Name: NoteName, Key: noteKey}
	if c.Namespace == "" {
		at.Namespace, at.Name = noteNamespace, NoteName+"-"+string(site)
	}
	if c.Note != "" {
		at.Namespace, at.Name, _ = strings.Cut(c.Note, "/")
		for _, part := range []string{at.Namespace, at.Name} {
			if _, err := bundle.ParseName(part); err != nil {
				return at, hinted{fmt.Errorf("note %.140q: it is no ConfigMap", c.Note), "--note is namespace/name"}
			}
		}
	}
	return at, nil
}

// notebook is the one in a cluster; nil for a cluster of a test that has none.
func (c Config) notebook(cluster apply.Cluster, site bundle.SiteID) (Notebook, error) {
	at, err := c.noteAt(site)
	if err != nil {
		return nil, err
	}
	if book, own := cluster.(Notebook); own {
		return book, nil
	}
	conn, reached := cluster.(*kube.Conn)
	if !reached {
		return nil, nil
	}
	return &clusterNote{conn: conn, note: at}, nil
}

// clusterNote is a Notebook in a ConfigMap.
type clusterNote struct {
	conn *kube.Conn
	note kube.Note

	mu      sync.Mutex
	version string // as it was seen last; empty: there was none
}

func (n *clusterNote) Read(ctx context.Context) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	text, version, err := n.conn.ReadNote(ctx, n.note)
	if err != nil {
		return nil, err
	}
	n.version = version
	return []byte(text), nil
}

func (n *clusterNote) Write(ctx context.Context, note []byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	version, err := n.conn.WriteNote(ctx, n.note, string(note), n.version)
	var refusal *apply.ServerError
	if errors.As(err, &refusal) && (refusal.Code == http.StatusConflict || refusal.Code == http.StatusNotFound && n.version != "") {
		return fmt.Errorf("%w: %w", errNoteChanged, err)
	}
	if err == nil {
		n.version = version
	}
	return err
}

const (
	notePatience = 10 * time.Second // for one request
	noteRetry    = 2 * time.Second
	// noteTries is how often a server may answer with a failure of its own before the site goes on without the note. One that does not answer at all is
	// waited for: without it nothing can begin in any case.
	noteTries = 5
)

// readNote tells the core what the cluster holds, once it says.
func (a *Agent) readNote(ctx context.Context) {
	said := ""
	for failures := 0; ; {
		asking, cancel := context.WithTimeout(ctx, notePatience)
		raw, err := a.opts.Notebook.Read(asking)
		cancel()
		in := fleetsync.Noted{Note: raw}
		if err != nil {
			var refusal *apply.ServerError
			answered := errors.As(err, &refusal) && refusal.Code != 0
			if answered {
				failures++
			}
			in.Err, in.Waits = noteWords(err), !answered || refusal.Code >= http.StatusInternalServerError && failures < noteTries
		}
		if ctx.Err() != nil {
			return
		}
		if !in.Waits || in.Err != said {
			a.mail.put(in)
		}
		if said = in.Err; !in.Waits {
			return
		}
		select {
		case <-time.After(noteRetry):
		case <-ctx.Done():
			return
		}
	}
}

// keepNote puts a note into the cluster. Where somebody else wrote in its place, that is looked at first.
func (a *Agent) keepNote(ctx context.Context, k fleetsync.Keep) {
	asking, cancel := context.WithTimeout(ctx, notePatience)
	defer cancel()
	kept := fleetsync.NoteKept{Number: k.Number}
	err := a.opts.Notebook.Write(asking, k.Note)
	if err != nil {
		kept.Err = noteWords(err)
	}
	a.mail.put(kept)
	if errors.Is(err, errNoteChanged) {
		a.readNote(ctx)
	}
}

// noteWords are an error in words, with a hint where a right is missing.
func noteWords(err error) string {
	var refusal *apply.ServerError
	if errors.As(err, &refusal) && refusal.Code == http.StatusForbidden {
		return err.Error() + ": " + hintNote
	}
	return err.Error()
}
