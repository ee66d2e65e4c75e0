package hub

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
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

// notificationRecord is what NotificationSubject holds. One that was deleted stays as its name, so that every hub hears of it.
type notificationRecord struct {
	Name     bundle.Name          `json:"name"`
	Spec     api.NotificationSpec `json:"spec"`
	Deleted  bool                 `json:"deleted,omitempty"`
	By       string               `json:"by"`
	Changed  time.Time            `json:"changed"`
	Revision uint64               `json:"revision"` // grows with each change
}

func (v *View) foldNotification(m stream.Message) error {
	var record notificationRecord
	if err := decodeRecord(m.Data, &record); err != nil {
		return fmt.Errorf("%s: %w", m.Subject, err)
	}
	if NotificationSubject(record.Name) != m.Subject {
		return fmt.Errorf("%s: the record is of notification %.80q", m.Subject, record.Name)
	}
	if record.Revision >= v.notifications[record.Name].Revision {
		v.notifications[record.Name] = record
	}
	return nil
}

// Notifications are those that are not deleted, by name.
func (v *View) Notifications() (records []notificationRecord) {
	for _, name := range slices.Sorted(maps.Keys(v.notifications)) {
		if record := v.notifications[name]; !record.Deleted {
			records = append(records, record)
		}
	}
	return records
}

// toldRecord is what toldSubject holds: what was told already of what holds.
type toldRecord struct {
	Keys []string `json:"keys"`
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
	var told toldRecord
	first := false
	m, err := n.hub.store.Get(ctx, toldSubject)
	if err == nil {
		err = decodeRecord(m.Data, &told)
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
	fresh, keys := raised(told.Keys, all)
	if !first && slices.Equal(keys, told.Keys) {
		return nil
	}
	if !first && len(fresh) > 0 {
		now := n.hub.cfg.Now().UTC().Truncate(time.Second)
		for _, r := range receivers {
			if err := n.hub.enqueue(ctx, r.Name, noticesFor(r.Spec, fresh, now)); err != nil {
				return err
			}
		}
	}
	// Commit point: from here on they are told.
	raw, err := json.Marshal(toldRecord{keys})
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
		// Somebody may have added to it since, and a full queue may have dropped of it.
		kept := now.Queue[:0:0]
		for _, notice := range now.Queue {
			if !slices.ContainsFunc(batch, func(sent api.Notice) bool { return sent.ID == notice.ID }) {
				kept = append(kept, notice)
			}
		}
		now.Queue = kept
		now.sent(h.cfg.Now(), 0)
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

func unknownNotification(name bundle.Name) *api.Error {
	return refuse(http.StatusNotFound, "UnknownNotification", fmt.Sprintf("notification %s is not known", name), "", "holdfast notification list shows them, holdfast apply -f makes one")
}

func (h *Hub) notification(name bundle.Name) (notificationRecord, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	record, known := h.view.notifications[name]
	if !known || record.Deleted {
		return record, unknownNotification(name)
	}
	return record, nil
}

// shownNotification is a notification with how its sending goes.
func (h *Hub) shownNotification(ctx context.Context, record notificationRecord) (api.Notification, error) {
	o, _, err := h.queue(ctx, record.Name)
	shown := api.Notification{
		Name: record.Name, Spec: record.Spec, By: record.By, Changed: record.Changed, Waiting: len(o.Queue), Dropped: o.Dropped, Error: o.Error, Tries: o.Tries,
	}
	if !o.Sent.IsZero() {
		shown.Sent = &o.Sent
	}
	if !o.Next.IsZero() && len(o.Queue) > 0 {
		shown.Next = &o.Next
	}
	return shown, err
}

// SetNotification has somebody told of what happens from now on, or of something else, or elsewhere.
func (h *Hub) SetNotification(ctx context.Context, name bundle.Name, spec api.NotificationSpec, by string) (api.Notification, error) {
	if err := checkNotification(spec); err != nil {
		return api.Notification{Name: name}, err
	}
	h.mu.Lock()
	full := len(h.view.Notifications()) >= maxNotifications
	h.mu.Unlock()
	if _, err := h.notification(name); full && err != nil {
		return api.Notification{Name: name}, refuse(http.StatusConflict, "TooMany", fmt.Sprintf("the hub tells %d receivers and no more", maxNotifications), "", "holdfast notification delete makes room")
	}
	return h.changeNotification(ctx, name, by, func(record *notificationRecord) error {
		record.Spec, record.Deleted = spec, false
		return nil
	})
}

// DeleteNotification has nobody told any more; what waits is not sent.
func (h *Hub) DeleteNotification(ctx context.Context, name bundle.Name, by string) (api.Notification, error) {
	gone, err := h.changeNotification(ctx, name, by, func(record *notificationRecord) error {
		if record.Deleted || record.Revision == 1 {
			return unknownNotification(name)
		}
		record.Spec, record.Deleted = api.NotificationSpec{}, true
		return nil
	})
	if err != nil {
		return gone, err
	}
	return gone, h.store.Delete(ctx, stream.Memory, queueSubject(name))
}

func (h *Hub) changeNotification(ctx context.Context, name bundle.Name, by string, edit func(*notificationRecord) error) (api.Notification, error) {
	var now notificationRecord
	err := changeRecord(ctx, h, NotificationSubject(name), fmt.Sprintf("notification %s", name), notificationRecord{Name: name}, func(record *notificationRecord) error {
		record.Revision++
		record.By, record.Changed = by, h.cfg.Now().UTC().Truncate(time.Second)
		now = *record
		if err := edit(record); err != nil {
			return err
		}
		now = *record
		return nil
	})
	if err != nil {
		return api.Notification{Name: name}, err
	}
	return h.shownNotification(ctx, now)
}

func notificationNamed(r *http.Request) (bundle.Name, error) {
	name, err := bundle.ParseName(r.PathValue("notification"))
	if err != nil {
		return "", malformed("not a notification's name", err)
	}
	return name, nil
}

// withNotification makes an endpoint of what is done with one that there is.
func withNotification[In, Out any](h *Hub, do func(ctx context.Context, record notificationRecord, by string) (Out, error)) endpoint[Out] {
	return func(w http.ResponseWriter, r *http.Request) (out Out, err error) {
		name, err := notificationNamed(r)
		if err != nil {
			return out, err
		}
		var request In
		if _, none := any(request).(struct{}); !none {
			if _, err := decodeRequest[In](w, r); err != nil {
				return out, err
			}
		}
		record, err := h.notification(name)
		if err != nil {
			return out, err
		}
		return do(context.WithoutCancel(r.Context()), record, who(r))
	}
}

func (h *Hub) getNotifications(_ http.ResponseWriter, r *http.Request) ([]api.Notification, error) {
	h.mu.Lock()
	records := h.view.Notifications()
	h.mu.Unlock()
	all := []api.Notification{}
	for _, record := range records {
		shown, err := h.shownNotification(r.Context(), record)
		if err != nil {
			return nil, err
		}
		all = append(all, shown)
	}
	return all, nil
}

func (h *Hub) getNotification() endpoint[api.Notification] {
	return withNotification[struct{}](h, func(ctx context.Context, record notificationRecord, _ string) (api.Notification, error) {
		return h.shownNotification(ctx, record)
	})
}

func (h *Hub) putNotification(w http.ResponseWriter, r *http.Request) (api.Notification, error) {
	name, err := notificationNamed(r)
	if err != nil {
		return api.Notification{}, err
	}
	spec, err := decodeRequest[api.NotificationSpec](w, r)
	if err != nil {
		return api.Notification{}, err
	}
	return h.SetNotification(context.WithoutCancel(r.Context()), name, spec, who(r))
}

func (h *Hub) deleteNotification() endpoint[api.Notification] {
	return withNotification[struct{}](h, func(ctx context.Context, record notificationRecord, by string) (api.Notification, error) {
		return h.DeleteNotification(ctx, record.Name, by)
	})
}

func (h *Hub) foreseeNotificationDelete(_ http.ResponseWriter, r *http.Request) (api.Impact, error) {
	impact := api.Impact{Act: "notification delete", Target: r.PathValue("notification"), DryRun: true, Losses: []api.Loss{}}
	shown, err := h.getNotification()(nil, r)
	if err == nil {
		impact.Changed = true
		impact.Lose("notification", string(shown.Name), "", "every notice from now on, and those that wait (%d now)", shown.Waiting)
	}
	return impact, err
}

// postNotificationTest has a test sent with the next look, behind what waits.
func (h *Hub) postNotificationTest() endpoint[api.Notification] {
	return withNotification[api.Because](h, func(ctx context.Context, record notificationRecord, by string) (api.Notification, error) {
		now := h.cfg.Now().UTC()
		test := api.Notice{ID: shortHash(string(record.Name) + now.String()), Kind: api.NoticeTest, At: now.Truncate(time.Second), Text: "a test that " + by + " asked for"}
		err := h.changeQueue(ctx, record.Name, func(o *outgoing) bool {
			o.Next = time.Time{}
			return o.put(test)
		})
		if err != nil {
			return api.Notification{Name: record.Name}, err
		}
		return h.shownNotification(ctx, record)
	})
}

func (h *Hub) postNotificationKey() endpoint[api.NotificationKey] {
	return withNotification[api.Because](h, func(_ context.Context, record notificationRecord, _ string) (api.NotificationKey, error) {
		key, err := h.notificationKey(record.Name)
		return api.NotificationKey{Secret: "whsec_" + base64.StdEncoding.EncodeToString(key)}, err
	})
}
