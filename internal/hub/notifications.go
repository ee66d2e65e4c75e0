package hub

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
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
		if _, err := bodyOf[In](w, r); err != nil {
			return out, err
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
