package hub

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// toldRecord is what toldSubject holds: what was told already of what holds.
type toldRecord struct {
	Told toldKeys `json:"told"`
}

// notifier tells receivers what happens, from the hub that leads. What is to be told is put into the receivers' queues on the bus before it counts as
// told, so that a crash tells a thing twice under one ID rather than never.
type notifier struct {
	hub  *Hub
	http *http.Client

	mu     sync.Mutex // one look at a time
	audit  error      // what is wrong with the audit log, as of looked
	looked time.Time
}

// Times of the notifier.
const (
	lookEvery    = 5 * time.Second
	auditEvery   = 6 * time.Hour
	noticeTime   = 15 * time.Second // of one message
	maxNoticeAns = 64 << 10         // bytes that are read of an answer
)

func newNotifier(h *Hub) *notifier {
	dial := &net.Dialer{Timeout: 10 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		host, _, err := net.SplitHostPort(address)
		if err == nil && forbidden(net.ParseIP(host)) {
			err = errors.New("its address is one of the link itself or of nobody")
		}
		return err
	}}
	return &notifier{hub: h, http: &http.Client{
		Timeout: noticeTime,
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: dial.DialContext, TLSHandshakeTimeout: 10 * time.Second,
			MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 64 << 10,
		},
		// The operator said whom to tell, not whom that one may send us to.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// startNotifying tells from now on, while this hub leads.
func (h *Hub) startNotifying() {
	h.notifier = newNotifier(h)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		every(ctx, h.cfg.lookEvery(), func() {
			if _, ours := h.rollouts.lease.held(); !ours {
				return
			}
			if err := h.notifier.look(ctx); err != nil && ctx.Err() == nil {
				h.log.Warn("notifications: will try again", zap.Error(err))
			}
		})
	})
	h.closers = append(h.closers, func() {
		stop()
		running.Wait()
		h.notifier.http.CloseIdleConnections()
	})
}

func (c Config) lookEvery() time.Duration { return cmp.Or(c.noticeEvery, lookEvery) }

// look puts what is new into the queues and sends what is due.
func (n *notifier) look(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.hub
	h.mu.Lock()
	receivers := h.view.Notifications()
	h.mu.Unlock()
	if len(receivers) == 0 {
		return n.begin(ctx)
	}
	if err := n.collect(ctx, receivers); err != nil {
		return err
	}
	var sending sync.WaitGroup
	failures := make([]error, len(receivers))
	for i, r := range receivers {
		sending.Go(func() { failures[i] = n.send(ctx, r) })
	}
	sending.Wait()
	return errors.Join(failures...)
}

// begin forgets what was told while nobody is: who is told later is told of what is new then.
func (n *notifier) begin(ctx context.Context) error {
	if _, err := n.hub.store.Get(ctx, toldSubject); errors.Is(err, fleetsync.ErrNotFound) {
		return nil
	}
	return n.hub.store.Delete(ctx, stream.Memory, toldSubject)
}

func (n *notifier) collect(ctx context.Context, receivers []notificationRecord) error {
	var before toldRecord
	first := false
	m, err := n.hub.store.Get(ctx, toldSubject)
	if err == nil {
		err = decodeRecord(m.Data, &before)
	}
	if errors.Is(err, fleetsync.ErrNotFound) {
		first, err = true, nil
	}
	if err != nil {
		return fmt.Errorf("what was told: %w", err)
	}
	all, err := n.conditions(ctx, receivers)
	if err != nil {
		return err
	}
	fresh, now := raised(before.Told, all)
	if !first && bytes.Equal(now, before.Told) {
		return nil
	}
	if !first && len(fresh) > 0 {
		at := n.hub.cfg.Now().UTC().Truncate(time.Second)
		for _, r := range receivers {
			if err := n.hub.enqueue(ctx, r.Name, noticesFor(r.Spec, fresh, at)); err != nil {
				return err
			}
		}
	}
	// Commit point: from here on they are told.
	raw, err := json.Marshal(toldRecord{now})
	if err == nil {
		_, err = n.hub.store.Put(ctx, toldSubject, raw)
	}
	if err != nil {
		return fmt.Errorf("what was told: %w", err)
	}
	return nil
}

// conditions are all that hold now.
func (n *notifier) conditions(ctx context.Context, receivers []notificationRecord) ([]condition, error) {
	h := n.hub
	now := h.cfg.Now()
	var offline []int
	for _, r := range receivers {
		if minutes := cmp.Or(r.Spec.OfflineMinutes, defaultOffline); !slices.Contains(offline, minutes) {
			offline = append(offline, minutes)
		}
	}
	heads := h.rollouts.list()
	waiting := map[string]string{}
	for _, head := range heads {
		if head.Phase == rollout.Running {
			h.rollouts.seeLed(head.ID, func(r *rollout.Rollout) { waiting[r.ID] = waitsFor(r) })
		}
	}
	h.mu.Lock()
	all := h.view.siteConditions(now, offline)
	h.mu.Unlock()
	troubles := h.troubles(ctx)
	if now.Sub(n.looked) >= auditEvery {
		verdict, err := h.VerifyAudit(ctx)
		if err == nil && verdict.Broken != "" {
			err = errors.New(verdict.Broken)
		}
		n.audit, n.looked = err, now
	}
	if n.audit != nil {
		troubles = append(troubles, "audit log: "+n.audit.Error())
	}
	return append(append(all, rolloutConditions(heads, waiting)...), troubleConditions(troubles)...), ctx.Err()
}

// enqueue puts notices into a receiver's queue.
func (h *Hub) enqueue(ctx context.Context, name bundle.Name, notices []api.Notice) error {
	if len(notices) == 0 {
		return nil
	}
	return h.changeQueue(ctx, name, func(o *outgoing) bool { return o.put(notices...) })
}

func (h *Hub) queue(ctx context.Context, name bundle.Name) (o outgoing, sequence uint64, err error) {
	m, err := h.store.Get(ctx, queueSubject(name))
	if errors.Is(err, fleetsync.ErrNotFound) {
		return o, 0, nil
	}
	if err == nil {
		err = decodeRecord(m.Data, &o)
	}
	if err != nil {
		return o, 0, fmt.Errorf("notification %s: queue: %w", name, err)
	}
	return o, m.Sequence, nil
}

// changeQueue changes a queue by compare-and-swap. edit says whether there is anything to change.
func (h *Hub) changeQueue(ctx context.Context, name bundle.Name, edit func(*outgoing) bool) error {
	for range assignTries {
		o, sequence, err := h.queue(ctx, name)
		if err != nil || !edit(&o) {
			return err
		}
		raw, err := json.Marshal(o)
		if err != nil {
			return fmt.Errorf("notification %s: encode: %w", name, err)
		}
		switch err := h.putIf(ctx, queueSubject(name), raw, sequence); {
		case errors.Is(err, stream.ErrConflict):
			continue
		case err != nil:
			return fmt.Errorf("notification %s: queue: %w", name, err)
		}
		return nil
	}
	return fmt.Errorf("notification %s: queue: %w %d times", name, stream.ErrConflict, assignTries)
}

// send sends what is due to one receiver, and writes down how that went.
func (n *notifier) send(ctx context.Context, r notificationRecord) error {
	h := n.hub
	o, _, err := h.queue(ctx, r.Name)
	if err != nil || !o.due(h.cfg.Now()) {
		return err
	}
	batch := o.batch()
	failure := n.post(ctx, r, &o)
	if ctx.Err() != nil {
		return nil // the next life or leader sends it again
	}
	if failure != nil {
		h.log.Warn("a notification is not taken", zap.String("notification", string(r.Name)), zap.Error(failure))
	}
	return h.changeQueue(ctx, r.Name, func(now *outgoing) bool {
		if failure != nil {
			now.failed(h.cfg.Now(), failure.Error())
			return true
		}
		now.sent(h.cfg.Now(), batch)
		return true
	})
}

// post sends one message. Its error never has the address, which may be a secret.
func (n *notifier) post(ctx context.Context, r notificationRecord, o *outgoing) error {
	h := n.hub
	body, err := noticeBody(h.Fleet(), r.Spec, o)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.Spec.URL, bytes.NewReader(body))
	if err != nil {
		return errors.New("the address cannot be asked")
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "holdfast-hub")
	if r.Spec.Format == api.FormatWebhook {
		key, err := h.notificationKey(r.Name)
		if err != nil {
			return err
		}
		id, at := messageID(o.batch()), h.cfg.Now()
		request.Header.Set("webhook-id", id)
		request.Header.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
		request.Header.Set("webhook-signature", webhookSignature(key, id, at, body))
	}
	response, err := n.http.Do(request)
	if err != nil {
		return errors.New(plainly(err))
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxNoticeAns))
	switch {
	case response.StatusCode/100 == 3:
		return fmt.Errorf("%s: redirects are not followed", response.Status)
	case response.StatusCode/100 != 2:
		return fmt.Errorf("it answers %s", response.Status)
	}
	return nil
}

// notificationKey is made of the hub's own key, so that it stands in no document and every hub of a bus has it. It changes with that key.
func (h *Hub) notificationKey(name bundle.Name) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, h.signing().private.Seed(), nil, "holdfast notification "+string(name), 32)
	if err != nil {
		return nil, fmt.Errorf("notification %s: key: %w", name, err)
	}
	return key, nil
}
