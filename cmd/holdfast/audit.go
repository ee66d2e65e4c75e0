package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
)

func newAudit(d *desk) *cobra.Command {
	return group("audit", "See who did what, and check that nothing of it was changed", newAuditList(d), newAuditVerify(d))
}

func newAuditList(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List who did what, the newest last", Example: "  holdfast audit list --limit 20\n  holdfast audit list --limit 5000 --who olga --refused", Args: exactly(),
	}
	f := outputFlag(cmd)
	limit := cmd.Flags().Int("limit", 0, "the newest so many `records` (default 100)")
	who := cmd.Flags().String("who", "", "of these, what was done by the `user`")
	what := cmd.Flags().String("what", "", "of these, what was done with the `words`, for example \"site revoke\"")
	refused := cmd.Flags().Bool("refused", false, "of these, what was refused")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		hub, err := d.hub()
		if err != nil {
			return err
		}
		records, err := hub.Audit(cmd.Context(), *limit)
		if err != nil {
			return err
		}
		records = slices.DeleteFunc(records, func(r api.AuditRecord) bool {
			return *who != "" && r.Who != *who || *what != "" && r.What != *what || *refused && !wasRefused(r)
		})
		return d.show(*f, records, func() page { return auditPage(records) })
	}
	return cmd
}

// wasRefused goes by the outcome: the reasons of refusals begin with capital letters.
func wasRefused(r api.AuditRecord) bool {
	first := r.Outcome[:min(len(r.Outcome), 1)]
	return first == strings.ToUpper(first)
}

// maxTarget is how much of a target a table shows: an assignment names every site. -o json has it all.
const maxTarget = 60

func auditPage(records []api.AuditRecord) page {
	t := table{head: []string{"N", "TIME", "WHO", "WHAT", "TARGET", "OUTCOME", "DETAIL"}, none: "nothing was done yet"}
	for _, r := range records {
		outcome := cell{r.Outcome, good}
		if wasRefused(r) {
			outcome.style = bad
		}
		t.add(textf("%d", r.Number), text(r.Time.Format("2006-01-02 15:04:05Z")), text(r.Who), text(r.What), text(cut(orDash(r.Target), maxTarget)), outcome, cell{r.Detail, faint})
	}
	return page{tables: []table{t}}
}

func newAuditVerify(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "verify", Short: "Check the audit log's chain of hashes from the first record to the last",
		Long: `Check the audit log's chain of hashes from the first record to the last. A changed, removed or inserted record breaks it. Keep the head elsewhere now
and then: a log whose end was cut off is whole in itself, but an older head is no longer in it.`,
		Example: "  holdfast audit verify", Args: exactly(),
	}
	f := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		hub, err := d.hub()
		if err != nil {
			return err
		}
		verdict, err := hub.VerifyAudit(cmd.Context())
		if err != nil {
			return err
		}
		err = d.show(*f, verdict, func() page {
			return page{facts: []fact{{"Records", textf("%d", verdict.Records)}, {"Head", text(orDash(verdict.Head))}}}
		})
		if err == nil && verdict.Broken != "" {
			err = &failure{code: exitRefused, message: "the audit log is broken: " + verdict.Broken, hint: "compare it with a backup of the hub's store"}
		}
		return err
	}
	return cmd
}
