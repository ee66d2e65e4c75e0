package api

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// maxNote bounds one note of a watch, in bytes.
const maxNote = 4 << 20

// Note is one server-sent event of a watch.
type Note struct {
	ID   string
	Kind string // site, event, rollout or reset; empty: only the ID goes on
	Data []byte
}

// WatchQuery chooses what to watch. Zero values leave nothing out.
type WatchQuery struct {
	Kinds []string
	Site  bundle.SiteID
	After string // ID of the last note that was told: the watch goes on behind it
}

// Watch tells what happens until ctx or the stream ends or tell fails. It returns nil where the stream was ended by the hub: watch again, after the
// last ID.
func (c *Client) Watch(ctx context.Context, choice WatchQuery, tell func(Note) error) error {
	query := url.Values{}
	if len(choice.Kinds) > 0 {
		query.Set("kinds", strings.Join(choice.Kinds, ","))
	}
	if choice.Site != "" {
		query.Set("site", string(choice.Site))
	}
	target := c.base.JoinPath("v1", "watch")
	target.RawQuery = query.Encode()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return fmt.Errorf("request: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	request.Header.Set("Accept", "text/event-stream")
	if choice.After != "" {
		request.Header.Set("Last-Event-ID", choice.After)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("%s: %w: %w", c.base.Host, ErrUnreachable, withoutURL(err))
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		raw, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
		if err != nil {
			return fmt.Errorf("%s: %w: %w", c.base.Host, ErrUnreachable, err)
		}
		return refusal(response, raw)
	}
	quiet := time.AfterFunc(maxQuiet, cancel)
	defer quiet.Stop()
	if err := readNotes(&watched{response.Body, quiet}, tell); err != nil {
		return fmt.Errorf("%s: %w", c.base.Host, err)
	}
	return nil
}

// maxQuiet is how long a hub that is there says nothing: it sends a beat every 15 seconds.
const maxQuiet = time.Minute

// watched puts off a timer with everything that is read.
type watched struct {
	stream io.Reader
	quiet  *time.Timer
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.stream.Read(b)
	w.quiet.Reset(maxQuiet)
	return n, err
}

// readNotes reads a stream of server-sent events as the hub writes them: a note ends with an empty line, and data has one line.
func readNotes(stream io.Reader, tell func(Note) error) error {
	lines := bufio.NewScanner(stream)
	lines.Buffer(make([]byte, 0, 64<<10), maxNote)
	note, said := Note{}, false
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case lines.Text() == "" && said:
			if err := tell(note); err != nil {
				return err
			}
			note, said = Note{}, false
		case name == "id":
			note.ID, said = value, true
		case name == "event":
			note.Kind, said = value, true
		case name == "data":
			note.Data, said = []byte(value), true
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return nil
}
