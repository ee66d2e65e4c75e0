package replicas

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/bus"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/wire"
)

// journal writes down what hubs put on the bus about who leads and what was decided, and counts what they say to sites.
type journal struct {
	client *bus.Hub
	pokes  atomic.Int64

	mu      sync.Mutex
	holders map[uint64]map[string]bool // by token
	heads   []head
}

// head is a stored state of a rollout.
type head struct {
	sequence uint64 // of the stream
	id       string
	revision uint64
	phase    rollout.Phase
	fence    uint64 // token of who stored it; 0: it was gone before it was read
}

// newJournal listens from now on, at whichever node is there.
func newJournal(c *nodes) *journal {
	c.t.Helper()
	credentials, err := c.keys.HubUser()
	must(c.t, err)
	j := &journal{holders: map[uint64]map[string]bool{}}
	j.client, err = bus.ConnectHub(c.t.Context(), bus.HubOptions{URL: strings.Join(c.urls(0), ","), Credentials: credentials, CA: c.roots, Log: zap.NewNop()})
	must(c.t, err)
	c.t.Cleanup(j.client.Close)
	nc, err := nats.Connect(strings.Join(c.urls(0), ","), nats.UserJWTAndSeed(credentials.JWT, credentials.Seed), nats.Secure(&tls.Config{RootCAs: c.roots, MinVersion: tls.VersionTLS13}), nats.MaxReconnects(-1))
	must(c.t, err)
	c.t.Cleanup(nc.Close)
	_, err = nc.Subscribe("hf.poke.*", func(*nats.Msg) { j.pokes.Add(1) })
	must(c.t, err)
	following, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = j.client.Follow(following, stream.Rollouts, 1, j.note) // ends with the test
	}()
	c.t.Cleanup(func() { stop(); <-ended })
	return j
}

func (j *journal) note(m stream.Message) error {
	if m.Subject == "hf.leader" {
		var lease struct {
			Holder string `json:"holder"`
			Token  uint64 `json:"token"`
		}
		if err := json.Unmarshal(m.Data, &lease); err != nil {
			return err
		}
		j.mu.Lock()
		defer j.mu.Unlock()
		if j.holders[lease.Token] == nil {
			j.holders[lease.Token] = map[string]bool{}
		}
		if lease.Holder != "" {
			j.holders[lease.Token][lease.Holder] = true
		}
		return nil
	}
	var stored struct {
		ID       string        `json:"id"`
		Revision uint64        `json:"revision"`
		Phase    rollout.Phase `json:"phase"`
		Digest   string        `json:"digest"`
		Parts    int           `json:"parts"`
		Size     int64         `json:"size"`
	}
	if err := json.Unmarshal(m.Data, &stored); err != nil {
		return err
	}
	h := head{sequence: m.Sequence, id: stored.ID, revision: stored.Revision, phase: stored.Phase}
	if whole, err := j.whole(stored.ID, stored.Digest, stored.Parts, stored.Size); err == nil {
		h.fence = whole.Fence
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.heads = append(j.heads, h)
	return nil
}

// whole reads the rollout of a head, which may have been swept away by a newer one.
func (j *journal) whole(id, digest string, parts int, size int64) (*rollout.Rollout, error) {
	var packed []byte
	for n := range parts {
		m, err := j.client.Get(context.Background(), fmt.Sprintf("hf.part.%s.%s.%d", id, strings.TrimPrefix(digest, "sha256:"), n))
		if err != nil {
			return nil, err
		}
		packed = append(packed, m.Data...)
	}
	raw, err := wire.Decompress(packed, size)
	if err != nil {
		return nil, err
	}
	return rollout.Decode(raw)
}

// check asserts that nothing was decided twice: each token had one holder, and each state of the rollout came after the one before it, by a token that is not older.
func (j *journal) check(t testing.TB, id string) {
	t.Helper()
	eventually(t, time.Minute, "the journal has the end of the rollout", func() error {
		j.mu.Lock()
		defer j.mu.Unlock()
		if len(j.heads) == 0 || j.heads[len(j.heads)-1].phase != rollout.Completed {
			return fmt.Errorf("%+v", j.heads)
		}
		return nil
	})
	j.mu.Lock()
	defer j.mu.Unlock()
	for token, holders := range j.holders {
		if len(holders) > 1 {
			t.Errorf("token %d had %d holders", token, len(holders))
		}
	}
	var before head
	fenced := 0
	for _, h := range j.heads {
		if h.id != id {
			t.Errorf("rollout %s is not the one that was started", h.id)
		}
		if h.revision <= before.revision {
			t.Errorf("revision %d stands at %d, after revision %d at %d", h.revision, h.sequence, before.revision, before.sequence)
		}
		if h.fence != 0 {
			fenced++
			if h.fence < before.fence {
				t.Errorf("revision %d was decided with token %d, an earlier one with %d", h.revision, h.fence, before.fence)
			}
			if len(j.holders[h.fence]) != 1 {
				t.Errorf("revision %d was decided with token %d, which nobody had", h.revision, h.fence)
			}
		} else {
			h.fence = before.fence
		}
		before = h
	}
	if fenced < 2 {
		t.Errorf("of %d states of the rollout only %d were read whole", len(j.heads), fenced)
	}
}

// traffic says what was stored and told.
func (j *journal) traffic() string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	text := fmt.Sprintf("%d pokes and answers", j.pokes.Load())
	for _, name := range []string{stream.Acks, stream.Events, stream.State, stream.Desired, stream.Rollouts} {
		_, last, err := j.client.Count(ctx, name)
		if err != nil {
			return err.Error()
		}
		text += fmt.Sprintf(", %d writes to %s", last, name)
	}
	return text
}
