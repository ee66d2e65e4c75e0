package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// NoticeKind is what a notice is about.
type NoticeKind string

// The kinds of notices.
const (
	NoticeRolloutPaused    NoticeKind = "rollout-paused" // by the engine or a person
	NoticeRolloutAborted   NoticeKind = "rollout-aborted"
	NoticeRolloutCompleted NoticeKind = "rollout-completed"
	NoticeApproval         NoticeKind = "approval-needed"
	NoticeOffline          NoticeKind = "site-offline"
	NoticeQuarantine       NoticeKind = "quarantine" // a site went back, halted or refused what it was to run
	NoticeClone            NoticeKind = "clone"
	NoticeTrouble          NoticeKind = "hub-trouble" // damage of the store or of the audit log
	NoticeTest             NoticeKind = "test"
)

// NoticeKinds are those that a notification may choose among.
var NoticeKinds = []NoticeKind{NoticeRolloutPaused, NoticeRolloutAborted, NoticeRolloutCompleted, NoticeApproval, NoticeOffline, NoticeQuarantine, NoticeClone, NoticeTrouble}

// Notice is one thing that somebody is told. It holds no value of a parameter or secret. ID stays the same however often it is sent.
type Notice struct {
	ID      string     `json:"id"`
	Kind    NoticeKind `json:"kind"`
	At      time.Time  `json:"at"`
	Subject string     `json:"subject,omitempty"` // the site or the rollout; empty where it is about several
	Text    string     `json:"text"`
}

// Notices is the body of a webhook.
type Notices struct {
	Fleet   string   `json:"fleet"`
	Notices []Notice `json:"notices"`
	Dropped int      `json:"dropped,omitempty"` // older ones that there was no room for
}

// The formats of a notification.
const (
	FormatWebhook = "webhook" // Notices, signed as https://www.standardwebhooks.com says
	FormatSlack   = "slack"   // {"text": …}
)

// NotificationSpec is whom the hub tells, and of what. The URL may be a secret in itself: only admins read it.
type NotificationSpec struct {
	URL    string       `json:"url"`
	Format string       `json:"format"`
	Kinds  []NoticeKind `json:"kinds,omitempty"` // none: all
	// OfflineMinutes is how long a site is silent before that is told; 0 is 60.
	OfflineMinutes int `json:"offlineMinutes,omitempty"`
}

// Notification is a NotificationSpec with how its sending goes.
type Notification struct {
	Name    bundle.Name      `json:"name"`
	Spec    NotificationSpec `json:"spec"`
	By      string           `json:"by"`
	Changed time.Time        `json:"changed"`
	Waiting int              `json:"waiting"`           // notices that are still to be sent
	Dropped int              `json:"dropped,omitempty"` // since the last that was sent
	Sent    *time.Time       `json:"sent,omitempty"`    // the last time it was taken
	Error   string           `json:"error,omitempty"`   // of the last try, where that failed
	Tries   int              `json:"tries,omitempty"`   // that failed in a row
	Next    *time.Time       `json:"next,omitempty"`    // the next try
}

// NotificationKey is the secret with which a receiver checks signatures.
type NotificationKey struct {
	Secret string `json:"secret"` // whsec_…
}

// Notifications lists whom the hub tells.
func (c *Client) Notifications(ctx context.Context) ([]Notification, error) {
	return ask[[]Notification](ctx, c, http.MethodGet, nil, nil, "notifications")
}

// Notification gives one of them.
func (c *Client) Notification(ctx context.Context, name bundle.Name) (Notification, error) {
	return ask[Notification](ctx, c, http.MethodGet, nil, nil, "notifications", string(name))
}

// SetNotification makes one or changes it.
func (c *Client) SetNotification(ctx context.Context, name bundle.Name, spec NotificationSpec) (Notification, error) {
	body, err := json.Marshal(spec)
	if err != nil {
		return Notification{}, fmt.Errorf("request: encode: %w", err)
	}
	return ask[Notification](ctx, c, http.MethodPut, nil, body, "notifications", string(name))
}

// DeleteNotification ends one.
func (c *Client) DeleteNotification(ctx context.Context, name bundle.Name) (Notification, error) {
	return ask[Notification](ctx, c, http.MethodDelete, nil, nil, "notifications", string(name))
}

// DeleteNotification foresees Client.DeleteNotification.
func (f Foresight) DeleteNotification(ctx context.Context, name bundle.Name) (Impact, error) {
	return f.ask(ctx, http.MethodDelete, nil, "notifications", string(name))
}

// TestNotification has a notice sent that says that it is a test.
func (c *Client) TestNotification(ctx context.Context, name bundle.Name) (Notification, error) {
	return askJSON[Notification](ctx, c, Because{}, "notifications", string(name), "test")
}

// NotificationKey gives the secret of a notification's signatures.
func (c *Client) NotificationKey(ctx context.Context, name bundle.Name) (NotificationKey, error) {
	return askJSON[NotificationKey](ctx, c, Because{}, "notifications", string(name), "key")
}

// Purge removes what is over: see the hub's retention.
func (c *Client) Purge(ctx context.Context) (Impact, error) {
	return askJSON[Impact](ctx, c, Because{}, "purge")
}

// Purge foresees Client.Purge.
func (f Foresight) Purge(ctx context.Context) (Impact, error) {
	return f.ask(ctx, http.MethodPost, Because{}, "purge")
}
