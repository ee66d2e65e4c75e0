package main

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

var notificationKind = resourceKind{
	name: "Notification", word: "notification",
	decode: decodeAs(bundleName, func(spec *api.NotificationSpec) {
		spec.Format = cmp.Or(spec.Format, api.FormatWebhook)
		slices.Sort(spec.Kinds)
	}),
	one: func(ctx context.Context, hub *api.Client, name string) (resource, bool, error) {
		n, err := hub.Notification(ctx, bundle.Name(name))
		return resourceFound(n, err, ofNotification)
	},
	all: func(ctx context.Context, hub *api.Client) ([]resource, error) {
		all, err := hub.Notifications(ctx)
		return resourcesOf(all, err, ofNotification)
	},
	set: func(ctx context.Context, hub *api.Client, c resourceChange) error {
		var spec api.NotificationSpec
		if err := json.Unmarshal(c.wanted.Spec, &spec); err != nil {
			return err
		}
		_, err := hub.SetNotification(ctx, bundle.Name(c.wanted.Metadata.Name), spec)
		return err
	},
}

func ofNotification(n api.Notification) (resource, error) {
	return newResource("Notification", string(n.Name), n.Spec)
}
