package main

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// secretState is where a secret stands at a site.
type secretState string

const (
	secretApplied   secretState = "applied"
	secretPending   secretState = "pending" // ordered, and the site has not said that it has it
	secretCannot    secretState = "cannot open"
	secretFailed    secretState = "failed"
	secretLeaving   secretState = "leaving"
	secretNotThere  secretState = "not given"
	cannotOpenWords             = "CannotOpenSecret" // fleetsync.BundleStatus.Reason
)

// there says that the site has the secret or will, without anybody doing anything.
func (s secretState) there() bool { return s == secretApplied || s == secretPending }

// secretStanding is one secret at one site, as of when the site said it. Digest is of the signed manifest of its sealed form.
type secretStanding struct {
	Secret    string         `json:"secret"`
	Site      bundle.SiteID  `json:"site"`
	Ordered   bundle.Version `json:"ordered,omitempty"`
	Has       bundle.Version `json:"has,omitempty"`
	State     secretState    `json:"state"`
	Digest    bundle.Digest  `json:"digest,omitempty"`
	Message   string         `json:"message,omitempty"`
	At        *time.Time     `json:"at,omitempty"`
	Freshness api.Freshness  `json:"freshness"`
	lastSeen  *time.Time
}

func newSecretList(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Say which sites have which secrets, and which of the chosen ones have not",
		Long: `Say of each secret that one of the chosen sites has where it stands at all of them, and when the site said so. Values are nowhere to be seen: the hub
has only what is sealed.`,
		Example: "  holdfast secret list --all\n  holdfast secret list --group canary",
		Args:    exactly(),
	}
	chosen := siteChoice(cmd)
	f := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		hub, err := d.hub()
		if err != nil {
			return err
		}
		ids, err := chosen(cmd.Context(), hub)
		if err != nil {
			return err
		}
		sites, err := chosenSites(cmd.Context(), hub, ids)
		if err != nil {
			return err
		}
		standings := standingsOf(sites)
		return d.show(*f, standings, func() page { return standingsPage(standings, d.now()) })
	}
	return cmd
}

// standingsOf holds every secret of any of the sites against all of them.
func standingsOf(sites []api.Site) []secretStanding {
	names := map[bundle.Name]bool{}
	for _, s := range sites {
		for _, b := range s.Assigned {
			if _, ok := secretOf(b.Name); ok {
				names[b.Name] = true
			}
		}
		if s.State == nil {
			continue
		}
		for _, b := range s.State.Bundles {
			if _, ok := secretOf(b.Name); ok {
				names[b.Name] = true
			}
		}
	}
	standings := []secretStanding{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		for _, s := range sites {
			standings = append(standings, standingOf(s, name))
		}
	}
	return standings
}

func standingOf(s api.Site, name bundle.Name) secretStanding {
	ref, _ := secretOf(name)
	out := secretStanding{Secret: ref.String(), Site: s.ID, State: secretNotThere, At: s.StateAt, Freshness: s.Freshness, lastSeen: s.LastSeen}
	for _, b := range s.Assigned {
		if b.Name == name {
			out.Ordered, out.Digest, out.State = b.Version, b.Digest, secretPending
		}
	}
	if s.State == nil {
		return out
	}
	for _, b := range s.State.Bundles {
		if b.Name != name {
			continue
		}
		out.Has, out.Message = b.Current, b.Message
		switch {
		case out.Ordered == "":
			out.State = secretLeaving
		case b.Digest != out.Digest: // it speaks of an earlier order
		case b.Reason == cannotOpenWords:
			out.State = secretCannot
		case b.Phase == fleetsync.PhaseCurrent:
			out.State = secretApplied
		case slices.Contains([]fleetsync.Phase{fleetsync.PhaseFailed, fleetsync.PhaseRefused, fleetsync.PhaseHalted, fleetsync.PhaseReverted, fleetsync.PhaseUnhealthy}, b.Phase):
			out.State = secretFailed
		}
	}
	return out
}

func standingsPage(standings []secretStanding, now time.Time) page {
	t := table{head: []string{"SECRET", "SITE", "STATE", "ORDERED", "HAS", "HEARD", "MESSAGE"}, none: "no secrets"}
	for _, s := range standings {
		style := warn
		switch s.State {
		case secretApplied:
			style = good
		case secretCannot, secretFailed:
			style = bad
		}
		t.add(text(s.Secret), text(string(s.Site)), cell{string(s.State), style}, text(orDash(counterText(s.Ordered))), text(orDash(counterText(s.Has))), heard(now, s.Freshness, s.lastSeen), text(s.Message))
	}
	return page{tables: []table{t}}
}

// counterText is the counter of a secret: its version is nothing else.
func counterText(v bundle.Version) string { return strings.TrimSuffix(string(v), ".0.0") }
