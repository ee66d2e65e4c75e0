package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

func newNotification(d *desk) *cobra.Command {
	return group("notification", "Whom the hub tells what happens: holdfast apply makes one, holdfast get notifications writes them",
		newNotificationList(d), newNotificationTest(d), newNotificationKey(d), newNotificationDelete(d))
}

func newNotificationList(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List whom the hub tells, of what, and how sending goes", Example: "  holdfast notification list", Args: exactly(),
		Long: "List whom the hub tells, of what, and how sending goes. Of an address the table shows the host alone: the rest of it may be a secret. -o json has all of it.",
	}
	f := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		hub, err := d.hub()
		if err != nil {
			return err
		}
		all, err := hub.Notifications(cmd.Context())
		if err != nil {
			return err
		}
		return d.show(*f, all, func() page { return notificationsPage(all, d.now()) })
	}
	return cmd
}

func notificationsPage(all []api.Notification, now time.Time) page {
	t := table{head: []string{"NOTIFICATION", "FORMAT", "HOST", "OF", "WAITING", "SENT", "STATE"}, none: "nobody is told"}
	for _, n := range all {
		of := make([]string, len(n.Spec.Kinds))
		for i, kind := range n.Spec.Kinds {
			of[i] = string(kind)
		}
		sent, host := cell{"never", faint}, "-"
		if n.Sent != nil {
			sent = text(api.Age(now, *n.Sent))
		}
		if u, err := url.Parse(n.Spec.URL); err == nil {
			host = u.Host
		}
		state := cell{"well", good}
		if n.Error != "" {
			state = cell{fmt.Sprintf("failed %d times: %s", n.Tries, n.Error), bad}
		}
		if n.Dropped > 0 {
			state.text += fmt.Sprintf(", %d dropped", n.Dropped)
		}
		t.add(text(string(n.Name)), text(n.Spec.Format), text(host), text(everything(of)), textf("%d", n.Waiting), sent, state)
	}
	return page{tables: []table{t}}
}

func everything(of []string) string {
	if len(of) == 0 {
		return "all"
	}
	return strings.Join(of, ",")
}

func newNotificationTest(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "test NOTIFICATION", Short: "Have a notice sent that says that it is a test",
		Long:    "Have a notice sent that says that it is a test, behind what waits; a rest after failures ends. holdfast notification list shows how it went.",
		Example: "  holdfast notification test duty",
	}
	return nameVerb(d, cmd, "NOTIFICATION", func(cmd *cobra.Command, hub *api.Client, name bundle.Name) error {
		n, err := hub.TestNotification(cmd.Context(), name)
		if err != nil {
			return err
		}
		d.sayf("notification %s: a test waits with %d %s to be sent", name, n.Waiting, plural(n.Waiting, "notice"))
		return nil
	})
}

func newNotificationKey(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "key NOTIFICATION", Short: "Write the secret with which a receiver checks signatures",
		Long: `Write the secret with which a receiver checks that a message is the hub's and new: the headers webhook-id, webhook-timestamp and webhook-signature are those
of https://www.standardwebhooks.com. It is made of the hub's own key and changes with that one.`,
		Example: "  holdfast notification key duty > duty.key",
	}
	return nameVerb(d, cmd, "NOTIFICATION", func(cmd *cobra.Command, hub *api.Client, name bundle.Name) error {
		key, err := hub.NotificationKey(cmd.Context(), name)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(d.out, key.Secret)
		return err
	})
}

func newNotificationDelete(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete NOTIFICATION", Short: "Have somebody told no more", Example: "  holdfast notification delete duty --yes",
	}
	return deleteVerb(d, cmd, "NOTIFICATION", api.Foresight.DeleteNotification, func(hub *api.Client, ctx context.Context, name bundle.Name) error {
		_, err := hub.DeleteNotification(ctx, name)
		return err
	})
}
