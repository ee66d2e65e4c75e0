package hub

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
)

// receiver is a webhook that checks what it is sent as https://www.standardwebhooks.com says.
type receiver struct {
	t   *testing.T
	url string

	mu     sync.Mutex
	key    string
	status int
	ids    []string
	got    []api.Notice
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{t: t, status: http.StatusNoContent}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.url = server.URL + "/hook?token=c4n4ry"
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	id := request.Header.Get("webhook-id")
	r.ids = append(r.ids, id)
	at, timeErr := strconv.ParseInt(request.Header.Get("webhook-timestamp"), 10, 64)
	key, keyErr := base64.StdEncoding.DecodeString(strings.TrimPrefix(r.key, "whsec_"))
	if r.key != "" && (err != nil || timeErr != nil || keyErr != nil || request.Header.Get("webhook-signature") != webhookSignature(key, id, time.Unix(at, 0), body)) {
		r.t.Errorf("a message that is not signed: %v", request.Header)
	}
	w.WriteHeader(r.status)
	var message api.Notices
	if err := json.Unmarshal(body, &message); err != nil {
		r.t.Error(err)
	}
	if r.status/100 == 2 {
		r.got = append(r.got, message.Notices...)
	}
}

func (r *receiver) answers(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

func (r *receiver) heard(kind api.NoticeKind, subject string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, notice := range r.got {
		if notice.Kind == kind && (subject == "" || notice.Subject == subject) {
			n++
		}
	}
	return n
}

// What happens is told once, signed, also where the receiver was away and the hub was started again in between; how it goes is shown, and the address
// is nowhere but with the admin who gave it.
func TestNotificationsOutliveReceiversAndHubs(t *testing.T) {
	d := newDistrict(t, 2, true)
	ctx := t.Context()
	hook := newReceiver(t)
	spec := api.NotificationSpec{URL: hook.url, Format: api.FormatWebhook}
	if _, err := d.client.SetNotification(ctx, "duty", api.NotificationSpec{URL: "http://example.com", Format: api.FormatWebhook}); refusalOf(t, err).Reason != "BadNotification" {
		t.Errorf("in the clear: %v", err)
	}
	if _, err := d.client.SetNotification(ctx, "duty", spec); err != nil {
		t.Fatal(err)
	}
	key, err := d.client.NotificationKey(ctx, "duty")
	if err != nil || !strings.HasPrefix(key.Secret, "whsec_") {
		t.Fatalf("%+v, %v", key, err)
	}
	hook.mu.Lock()
	hook.key = key.Secret
	hook.mu.Unlock()
	told := func() bool { _, err := d.h.store.Get(ctx, toldSubject); return err == nil }
	eventually(t, "the hub knows what holds", told)

	d.release("1.1.0", 2, map[int]rollout.Behaviour{1: rollout.DoesFail})
	hook.answers(http.StatusServiceUnavailable)
	r := d.start("1.1.0", quick)
	d.reaches(r.ID, rollout.Paused)
	var shown api.Notification
	eventually(t, "the failure is shown", func() bool {
		shown, err = d.client.Notification(ctx, "duty")
		return err == nil && shown.Tries > 0 && shown.Waiting > 0
	})
	if shown.Error != "it answers 503 Service Unavailable" || shown.Next == nil || shown.Sent != nil {
		t.Errorf("%+v", shown)
	}

	// Another life of the hub goes on with what waits.
	d.h.Close()
	d.h = startHub(t, d.cfg)
	d.client = clientOf(t, d.h)
	hook.answers(http.StatusNoContent)
	if _, err := d.client.TestNotification(ctx, "duty"); err != nil { // it also ends the rest after a failure
		t.Fatal(err)
	}
	eventually(t, "all is told", func() bool { return hook.heard(api.NoticeTest, "") == 1 })
	if n := hook.heard(api.NoticeRolloutPaused, r.ID); n != 1 {
		t.Errorf("the pause was told %d times", n)
	}
	if n := hook.heard(api.NoticeQuarantine, "shop-1"); n != 1 {
		t.Errorf("the revert was told %d times", n)
	}
	eventually(t, "it is shown", func() bool {
		shown, err = d.client.Notification(ctx, "duty")
		return err == nil && shown.Sent != nil && shown.Waiting == 0 && shown.Error == "" && shown.Tries == 0
	})
	if list, err := d.client.Notifications(ctx); err != nil || len(list) != 1 || list[0].Spec.URL != spec.URL {
		t.Errorf("%+v, %v", list, err)
	}

	d.act(r.ID, "abort", api.RolloutAct{Why: "wrong"})
	eventually(t, "the abort is told", func() bool { return hook.heard(api.NoticeRolloutAborted, r.ID) == 1 })

	gone, err := d.client.Foresee().DeleteNotification(ctx, "duty")
	if err != nil || !gone.Changed {
		t.Errorf("%+v, %v", gone, err)
	}
	if _, err := d.client.DeleteNotification(ctx, "duty"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.client.Notification(ctx, "duty"); refusalOf(t, err).Status != http.StatusNotFound {
		t.Errorf("it is there: %v", err)
	}
	records, err := d.client.Audit(ctx, 0)
	if raw, _ := json.Marshal(records); err != nil || strings.Contains(string(raw), "c4n4ry") || strings.Contains(string(raw), "whsec_") || !strings.Contains(string(raw), "notification set") {
		t.Errorf("the audit log: %v", err)
	}
}

// Silence that lasts as long as somebody asked is told, and that a wave waits for a person.
func TestWhatTimeBringsIsToldToo(t *testing.T) {
	d := newDistrict(t, 2, true)
	hook := newReceiver(t)
	spec := api.NotificationSpec{URL: hook.url, Format: api.FormatWebhook, Kinds: []api.NoticeKind{api.NoticeApproval, api.NoticeOffline}, OfflineMinutes: 1}
	if _, err := d.client.SetNotification(t.Context(), "duty", spec); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the hub knows what holds", func() bool { _, err := d.h.store.Get(t.Context(), toldSubject); return err == nil })
	d.release("1.1.0", 2, nil)
	r := d.start("1.1.0", `{"waves":[{"name":"canary","sites":{"names":["shop-1"]},"soak":"0s"},{"name":"rest","soak":"0s","maxUnavailable":1,"approvals":1}]}`)
	eventually(t, "the wave's wait is told", func() bool { return hook.heard(api.NoticeApproval, r.ID) == 1 })

	d.h.mu.Lock()
	gone := d.h.view.siteConditions(time.Now().Add(2*time.Minute), []int{1, 5})
	now := d.h.view.siteConditions(time.Now(), []int{1, 5})
	d.h.mu.Unlock()
	if len(gone) != 2 || gone[0].kind != api.NoticeOffline || gone[0].minutes != 1 || len(now) != 0 {
		t.Errorf("silent for two minutes: %+v; now: %+v", gone, now)
	}
}
