package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/deploy"
	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/enrol"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
)

func newToken(d *desk) *cobra.Command {
	return group("token", "Make, list and revoke the join tokens by which devices become sites", newTokenCreate(d), newTokenList(d), newTokenRevoke(d))
}

// groupLabel is the label that --group sets.
const groupLabel = "group"

// tokenFlags are what token create and site replace share.
type tokenFlags struct {
	expires     time.Duration
	preApproved bool
	out         string
	format      string
	image       string
	trust       string
}

func (t *tokenFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.DurationVar(&t.expires, "expires", 24*time.Hour, "how long the token is good, at most 72h")
	f.BoolVar(&t.preApproved, "pre-approved", false, "devices become sites at once, without anybody comparing words")
	f.StringVarP(&t.out, "output", "o", "", "`file` to write, or - (required)")
	f.StringVar(&t.format, "format", formatFile, "what is written: "+formatFile+" (the enrolment file), "+formatManifest+" (the whole installation of the edge, for kubectl) or "+formatValues+" (for its Helm chart)")
	f.StringVar(&t.image, "image", "", "with --format "+formatManifest+" or "+formatValues+": the agent's `image`")
	f.StringVar(&t.trust, "trust", "", "fleet's `folder` whose root of trust the enrolment file must carry, so that not even the hub can put in another")
}

func newTokenCreate(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create -o FILE",
		Short: "Make a join token and the enrolment file that carries it to devices",
		Long: `Make a join token and write the enrolment file that carries it, with the hub's address, its keys and the fleet's trust.
The same file works on every device of an image: put it beside the agent and start it with

  holdfast-edge run --enrol FILE --data DIR

Each device makes its own key. Its site's name follows from --site-name and the device's own facts, never from what it asks for:

  fixed:NAME       this one name, for one device
  serial           the machine's serial number
  machine-id       the system's machine id (the default)
  node-label:KEY   a label of the Kubernetes node

With --format manifest it writes all that a cluster needs instead, for kubectl apply -f or the folder from which a device's image applies manifests at
its first boot; with --format values, values for deploy/helm/holdfast-edge.

Without --pre-approved it waits until somebody compares its words and approves it: holdfast site pending, holdfast site approve.
The file holds a secret for as long as the token is good.`,
		Example: "  holdfast token create --group canary --uses 500 --expires 48h --site-name serial -o enrol.json\n" +
			"  holdfast token create --uses 500 --format manifest --image registry.example/holdfast-edge@sha256:… -o install.yaml",
		Args: exactly(),
	}
	var shared tokenFlags
	shared.add(cmd)
	labels := cmd.Flags().StringArrayP("label", "l", nil, "`name=value` of the sites; may be repeated")
	inGroup := cmd.Flags().String("group", "", "`name` of the group: the sites get the label "+groupLabel+"=NAME")
	uses := cmd.Flags().Int("uses", 1, "for how many devices")
	rule := cmd.Flags().String("site-name", string(enrol.ByMachineID), "`rule` that names the sites")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := shared.check(cmd); err != nil {
			return err
		}
		parsed, err := enrol.ParseRule(*rule)
		if err != nil {
			return err
		}
		if *inGroup != "" {
			*labels = append(*labels, groupLabel+"="+*inGroup)
		}
		pairs, err := siteLabels(*labels)
		if err != nil {
			return err
		}
		hub, err := d.hub()
		if err != nil {
			return err
		}
		request := api.TokenRequest{Rule: parsed, Labels: pairs, Uses: *uses, Seconds: int64(shared.expires / time.Second), PreApproved: shared.preApproved}
		return d.writeToken(shared, func() (api.TokenGrant, error) { return hub.CreateToken(cmd.Context(), request) })
	}
	return cmd
}

// What --format takes.
const (
	formatFile     = "file"
	formatManifest = "manifest"
	formatValues   = "values"
)

// check says what is wrong with the flags, before a token is made for them.
func (t *tokenFlags) check(cmd *cobra.Command) error {
	switch t.format {
	case formatFile:
		if t.image != "" {
			return usagef(cmd, "--image is for --format %s and %s", formatManifest, formatValues)
		}
	case formatManifest, formatValues:
		if err := deploy.CheckImage(t.image); err != nil {
			return usagef(cmd, "--image: %v", err)
		}
	default:
		return usagef(cmd, "--format %q: want %s, %s or %s", t.format, formatFile, formatManifest, formatValues)
	}
	if t.out == "" {
		return usagef(cmd, "--output is needed")
	}
	return nil
}

// write lays an enrolment file out as the flags say.
func (t *tokenFlags) write(file enrol.File) ([]byte, error) {
	raw, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("enrolment file: %w", err)
	}
	raw = append(raw, '\n')
	switch t.format {
	case formatManifest:
		return deploy.EdgeManifest(t.image, raw)
	case formatValues:
		return deploy.EdgeValues(t.image, raw)
	}
	return raw, nil
}

// writeToken makes the token and writes its file, which is given out once and so must have somewhere to go before the hub is asked.
func (d *desk) writeToken(t tokenFlags, create func() (api.TokenGrant, error)) error {
	if t.out != "-" {
		if err := writeNew(t.out, nil, 0o600); err != nil {
			return err
		}
	}
	grant, err := create()
	if err == nil {
		err = sameTrust(t.trust, grant.File.Trust)
	}
	if err != nil {
		if t.out != "-" {
			os.Remove(t.out)
		}
		return err
	}
	raw, err := t.write(grant.File)
	if err != nil {
		return err
	}
	if err := d.writeWhole(t.out, raw, 0o600); err != nil {
		return err
	}
	token := grant.Token
	d.sayf("token %s: for %d %s, named by %s, until %s", token.ID, token.Uses, plural(token.Uses, "device"), token.Rule, token.Expires.Format(time.RFC3339))
	if !token.PreApproved {
		d.sayf("next: start the devices, then holdfast site pending and holdfast site approve")
	}
	return nil
}

// sameTrust refuses a hub that hands out another root of trust than the one at the desk.
func sameTrust(dir string, given []byte) error {
	if dir == "" {
		return nil
	}
	ours, err := fleetFolder{dir}.published()
	if err != nil {
		return err
	}
	theirs, err := tuf.Decode(given)
	if err != nil {
		return fmt.Errorf("the hub's trust: %w", err)
	}
	if !bytes.Equal(ours.Root, theirs.Root) || !bytes.Equal(ours.Targets, theirs.Targets) || !bytes.Equal(ours.Fleet, theirs.Fleet) {
		return &failure{code: exitRefused, message: fmt.Sprintf("the hub's root of trust is not that of %s: no enrolment file was written", dir), hint: "holdfast root publish gives the hub what is new at the desk; otherwise find out who changed it, and revoke the token: holdfast token list"}
	}
	return nil
}

func newTokenList(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List the join tokens, without their secrets", Example: "  holdfast token list", Args: exactly(),
	}
	f := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		hub, err := d.hub()
		if err != nil {
			return err
		}
		tokens, err := hub.Tokens(cmd.Context())
		if err != nil {
			return err
		}
		return d.show(*f, tokens, func() page { return tokensPage(tokens, d.now()) })
	}
	return cmd
}

func tokensPage(tokens []api.Token, now time.Time) page {
	t := table{head: []string{"TOKEN", "STATE", "USED", "NAMES BY", "APPROVAL", "LABELS"}, none: "no tokens"}
	for _, token := range tokens {
		approval := "by hand"
		if token.PreApproved {
			approval = "given"
		}
		t.add(text(token.ID), tokenState(token, now), textf("%d of %d", len(token.Used), token.Uses), text(string(token.Rule)), text(approval), cell{labelsText(token.Labels), faint})
	}
	return page{tables: []table{t}}
}

func tokenState(token api.Token, now time.Time) cell {
	switch {
	case token.Revoked != nil:
		return cell{"revoked", bad}
	case !now.Before(token.Expires):
		return cell{"expired", faint}
	case len(token.Used) >= token.Uses:
		return cell{"spent", faint}
	}
	return cell{"good for " + token.Expires.Sub(now).Round(time.Minute).String(), good}
}

func newTokenRevoke(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "revoke TOKEN", Short: "End a join token: no further device can use it; sites it made stay",
		Example: "  holdfast token revoke k3vq7d2mza --yes", Args: exactly("TOKEN"),
	}
	f, asked := outputFlag(cmd), destructive(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := enrol.ParseID(args[0])
		if err != nil {
			return err
		}
		hub, err := d.hub()
		if err != nil {
			return err
		}
		impact, err := hub.Foresee().RevokeToken(cmd.Context(), id)
		if err != nil {
			return err
		}
		return d.destroy(*f, asked, mended, impact, func() (string, error) {
			token, err := hub.RevokeToken(cmd.Context(), id)
			return fmt.Sprintf("token %s is revoked; it made %d %s", token.ID, len(token.Used), plural(len(token.Used), "site")), err
		})
	}
	return cmd
}
