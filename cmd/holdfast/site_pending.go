package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/enrol"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

func newSitePending(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pending",
		Short: "List the devices that wait for approval: their words, and what they claim to be",
		Long: `List the devices that wait for approval. The words are the fingerprint of the device's key: its agent says the same words in its log.
The site's name follows from the join token's rule; serial number, machine id and host name are what the device claims, and not proven.`,
		Example: "  holdfast site pending\n  holdfast site pending --all",
		Args:    exactly(),
	}
	f := outputFlag(cmd)
	all := cmd.Flags().Bool("all", false, "also those that were approved or rejected")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		hub, err := d.hub()
		if err != nil {
			return err
		}
		found, err := enrolments(cmd.Context(), hub, *all)
		if err != nil {
			return err
		}
		return d.show(*f, found, func() page { return enrolmentsPage(found, d.now()) })
	}
	return cmd
}

func enrolments(ctx context.Context, hub *api.Client, all bool) ([]enrol.Enrolment, error) {
	known, err := hub.Enrolments(ctx)
	if err != nil {
		return nil, err
	}
	found := []enrol.Enrolment{}
	for _, e := range known {
		if all || e.Status == enrol.Pending {
			found = append(found, e)
		}
	}
	return found, nil
}

func enrolmentsPage(found []enrol.Enrolment, now time.Time) page {
	t := table{head: []string{"SITE", "WORDS", "STATE", "ASKED", "FROM", "CLAIMS", "LABELS"}, none: "nobody waits for approval"}
	for _, e := range found {
		style := warn
		switch e.Status {
		case enrol.Approved:
			style = good
		case enrol.Rejected:
			style = bad
		}
		state := string(e.Status)
		if e.Replaces {
			state += ", replaces"
		}
		t.add(text(string(e.Site)), cell{e.Fingerprint, strong}, cell{state, style}, textf("%s ago", now.Sub(e.First).Round(time.Second)), text(e.From), text(claimsText(e.Facts)), cell{labelsText(e.Labels), faint})
	}
	return page{tables: []table{t}}
}

func claimsText(facts enrol.Facts) string {
	var claims []string
	for _, c := range []struct{ name, value string }{{"serial", facts.Serial}, {"machine-id", facts.MachineID}, {"host", facts.Hostname}} {
		if c.value != "" {
			claims = append(claims, c.name+" "+c.value)
		}
	}
	if labels := labelsText(facts.NodeLabels); labels != "" {
		claims = append(claims, "node "+labels)
	}
	return strings.Join(claims, ", ")
}

func newSiteApprove(d *desk) *cobra.Command {
	return newSiteDecision(d, true, "approve", "Let devices that wait become sites", `Let devices that wait become sites. Compare the words with those in the device's log first: they are its key's.
With a site's name, the one device that waits for that name is meant; where several do, give the words.`)
}

func newSiteReject(d *desk) *cobra.Command {
	return newSiteDecision(d, false, "reject", "Turn devices away that wait for approval", `Turn devices away that wait for approval. The join token's use stays taken by the device's key, so it cannot ask again as another.`)
}

func newSiteDecision(d *desk, approve bool, verb, short, long string) *cobra.Command {
	cmd := &cobra.Command{
		Use: verb + " SITE|WORDS...", Short: short, Long: long,
		Example: fmt.Sprintf("  holdfast site %s shop-berlin\n  holdfast site %s lusab-babad-gutih-tugad-jibob --yes", verb, verb),
		Args:    cobra.ArbitraryArgs,
	}
	yes := cmd.Flags().BoolP("yes", "y", false, "do it without asking")
	why := cmd.Flags().String("why", "", "reason, for the audit log and the device")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef(cmd, "nobody is named: want SITE or WORDS; holdfast site pending shows who waits")
		}
		hub, err := d.hub()
		if err != nil {
			return err
		}
		waiting, err := enrolments(cmd.Context(), hub, false)
		if err != nil {
			return err
		}
		chosen, err := choose(waiting, args)
		if err != nil {
			return err
		}
		d.sayf("%d %s:", len(chosen), plural(len(chosen), "device"))
		plan := enrolmentsPage(chosen, d.now()).tables[0]
		if err := plan.draw(d.talk, 0, false); err != nil {
			return err
		}
		if err := d.agree(*yes); err != nil {
			return err
		}
		for _, e := range chosen {
			decided, err := hub.DecideEnrolment(cmd.Context(), e.Fingerprint, api.Decision{Approve: approve, Why: *why})
			if err != nil {
				return err
			}
			d.sayf("%s %s (%s)", decided.Site, decided.Status, decided.Fingerprint)
			if approve { // the words as they were shown above
				d.noteSites(cmd.Context(), hub, map[bundle.SiteID]string{e.Site: e.Fingerprint})
			}
		}
		return nil
	}
	return cmd
}

// choose finds the devices that names or words mean, each exactly one.
func choose(waiting []enrol.Enrolment, args []string) ([]enrol.Enrolment, error) {
	var chosen []enrol.Enrolment
	for _, arg := range args {
		var found []enrol.Enrolment
		for _, e := range waiting {
			if e.Fingerprint == arg || string(e.Site) == arg {
				found = append(found, e)
			}
		}
		switch len(found) {
		case 0:
			return nil, &failure{code: exitNotFound, message: fmt.Sprintf("nobody waits for approval as %s", arg), hint: "holdfast site pending shows who waits"}
		case 1:
			chosen = append(chosen, found[0])
		default:
			return nil, &failure{code: exitConflict, message: fmt.Sprintf("%d devices wait for the name %s", len(found), arg), hint: "give the words of the right one; one of them is not what it claims to be"}
		}
	}
	return chosen, nil
}
