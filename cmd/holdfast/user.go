package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/access"
	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

func newUser(d *desk) *cobra.Command {
	return group("user", "Say who may use the hub, and how far", newUserAdd(d), newUserList(d), newUserRenew(d), newUserRevoke(d))
}

// userFlags are what user add and user renew share.
type userFlags struct {
	days int
	out  string
}

func (u *userFlags) add(cmd *cobra.Command) {
	cmd.Flags().IntVar(&u.days, "days", 90, "how many days the token is good, at most 366")
	cmd.Flags().StringVarP(&u.out, "output", "o", "", "context `file` to write, or - (required)")
}

func (u *userFlags) seconds() int64 { return int64(min(max(u.days, 0), 10000)) * 24 * 3600 }

func newUserAdd(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add NAME --role ROLE -o FILE",
		Short: "Make a user and the context file with its token",
		Long: `Make a user and write the context file that holds its token: it is given out this once, and the hub keeps nothing but its hash.

  viewer    sees
  operator  and changes what runs where
  approver  and approves what somebody else started
  admin     and says who may do what

With --group or --labels the user sees those sites and no others, and changes nothing that is about the whole fleet.`,
		Example: `  holdfast user add olga --role operator --group europe -o olga.context.json
  holdfast --context olga.context.json site list`,
		Args: exactly("NAME"),
	}
	var shared userFlags
	shared.add(cmd)
	role := cmd.Flags().String("role", "", "viewer, operator, approver or admin (required)")
	complete(cmd, "role", string(access.Viewer), string(access.Operator), string(access.Approver), string(access.Admin))
	inGroup := cmd.Flags().String("group", "", "limit the user to the sites of the group with the `name`")
	labels := cmd.Flags().StringP("labels", "l", "", "limit the user to the sites that match the label `selector`")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *role == "" {
			return usagef(cmd, "--role is needed")
		}
		parsed, err := access.ParseRole(*role)
		if err != nil {
			return usagef(cmd, "%s", err)
		}
		request := api.UserRequest{Name: args[0], Role: parsed, Scope: access.Scope{Group: bundle.Name(*inGroup), Labels: *labels}, Seconds: shared.seconds()}
		hub, err := d.hub()
		if err != nil {
			return err
		}
		return d.writeUser(cmd, shared, func() (api.UserGrant, error) { return hub.AddUser(cmd.Context(), request) })
	}
	return cmd
}

// writeUser makes the token and writes its context file, which is given out once and so must have somewhere to go before the hub is asked.
func (d *desk) writeUser(cmd *cobra.Command, u userFlags, grant func() (api.UserGrant, error)) error {
	if u.out == "" {
		return usagef(cmd, "--output is needed")
	}
	if u.out != "-" {
		if err := writeNew(u.out, nil, 0o600); err != nil {
			return err
		}
	}
	granted, err := grant()
	if err != nil {
		if u.out != "-" {
			os.Remove(u.out)
		}
		return err
	}
	raw, err := json.MarshalIndent(granted.Context, "", "  ")
	if err != nil {
		return fmt.Errorf("context file: %w", err)
	}
	if err := d.writeWhole(u.out, append(raw, '\n'), 0o600); err != nil {
		return err
	}
	user := granted.User
	d.sayf("user %s: %s, %s, until %s", user.Name, user.Role, scopeText(user.Scope), user.Expires.Format(time.RFC3339))
	if u.out != "-" {
		d.sayf("its token is in %s; carry it as you would a password", u.out)
	}
	return nil
}

func scopeText(s access.Scope) string {
	if s.Empty() {
		return "every site"
	}
	return s.String()
}

func newUserList(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List the users: what they may do, and when they were last there", Example: "  holdfast user list", Args: exactly(),
	}
	f := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		hub, err := d.hub()
		if err != nil {
			return err
		}
		users, err := hub.Users(cmd.Context())
		if err != nil {
			return err
		}
		return d.show(*f, users, func() page { return usersPage(users, d.now()) })
	}
	return cmd
}

func usersPage(users []api.User, now time.Time) page {
	t := table{head: []string{"USER", "ROLE", "SITES", "TOKEN", "LAST USED", "BY"}, none: "no users but the admin of the first start"}
	for _, user := range users {
		used := cell{"never", faint}
		if user.LastUsed != nil {
			used = text(api.Age(now, *user.LastUsed))
		}
		t.add(text(user.Name), text(string(user.Role)), text(scopeText(user.Scope)), userState(user, now), used, text(user.By))
	}
	return page{tables: []table{t}}
}

func userState(user api.User, now time.Time) cell {
	switch {
	case user.Revoked != nil:
		return cell{"revoked", bad}
	case user.Expires == nil:
		return cell{"good for ever", good}
	case !now.Before(*user.Expires):
		return cell{"expired", faint}
	}
	return cell{"good for " + api.Span(user.Expires.Sub(now)), good}
}

func newUserRenew(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "renew NAME -o FILE", Short: "Give a user another token: the one before it opens nothing from then on",
		Long: `Give a user another token and write its context file. The token before it, lost or stolen, opens nothing from that moment. Role and scope stay.
A user whose token was revoked or expired is let in again.`,
		Example: "  holdfast user renew olga -o olga.context.json", Args: exactly("NAME"),
	}
	var shared userFlags
	shared.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		hub, err := d.hub()
		if err != nil {
			return err
		}
		return d.writeUser(cmd, shared, func() (api.UserGrant, error) {
			return hub.RenewUser(cmd.Context(), args[0], api.UserRenewal{Seconds: shared.seconds()})
		})
	}
	return cmd
}

func newUserRevoke(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "revoke NAME", Short: "End a user's token at once",
		Long:    "End a user's token at once. The name stays in the list and is never somebody else's; holdfast user renew lets the user in again.",
		Example: `  holdfast user revoke olga --why "laptop lost" --yes`, Args: exactly("NAME"),
	}
	f, asked := outputFlag(cmd), destructive(cmd)
	why := cmd.Flags().String("why", "", "reason, shown in the list")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		hub, err := d.hub()
		if err != nil {
			return err
		}
		impact, err := hub.Foresee().RevokeUser(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		return d.destroy(*f, asked, mended, impact, func() (string, error) {
			user, err := hub.RevokeUser(cmd.Context(), args[0], *why)
			return fmt.Sprintf("user %s is revoked", user.Name), err
		})
	}
	return cmd
}
