package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
)

// foresight is how far a verb goes without a word from the operator.
type foresight struct{ dry, yes bool }

func foresightFlags(cmd *cobra.Command) *foresight {
	f := &foresight{}
	cmd.Flags().BoolVar(&f.dry, "dry-run", false, "show what would change and change nothing; exit with 8 if something would")
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "do it without showing it first and without asking")
	return f
}

// foreseen carries a change out after showing it, and on a terminal after a yes. What is shown first is talk, so that -o json stays one document.
func (d *desk) foreseen(f format, asked *foresight, carryOut func(dry bool) ([]api.AssignResult, error)) error {
	if asked.dry || !asked.yes {
		would, err := carryOut(true)
		if err != nil {
			return err
		}
		if asked.dry {
			return d.showForesight(f, would)
		}
		if changing(would) > 0 {
			d.sayf("%s", blast(would))
			if err := d.askForeseen(would); err != nil {
				return err
			}
		}
	}
	results, err := carryOut(false)
	if err != nil {
		return err
	}
	return d.showResults(f, results)
}

// maxAsked is how many sites a question shows: what has scrolled away was not read.
const maxAsked = 100

// askForeseen asks only whoever sits there: a script has said by its command what it wants.
func (d *desk) askForeseen(would []api.AssignResult) error {
	tty, err := d.terminal()
	if errors.Is(err, errNoTerminal) {
		return nil
	}
	if err != nil {
		return err
	}
	tty.Close()
	t := foresightTable(would)
	more := len(t.rows) - maxAsked
	t.rows = t.rows[:min(len(t.rows), maxAsked)]
	if err := t.draw(d.talk, 0, false); err != nil {
		return err
	}
	if more > 0 {
		d.sayf("and %d more: --dry-run lists them all", more)
	}
	return d.agree(false)
}

// showForesight shows a dry run as data; its exit code says whether something would change or be refused.
func (d *desk) showForesight(f format, would []api.AssignResult) error {
	d.sayf("%s", blast(would))
	if err := d.show(f, would, func() page { return page{tables: []table{foresightTable(would)}} }); err != nil {
		return err
	}
	if err := firstRefusal(would, nil); err != nil {
		return err
	}
	if changing(would) > 0 {
		return &failure{code: exitDifferent}
	}
	return nil
}

func changing(would []api.AssignResult) (n int) {
	for _, r := range would {
		if r.Changed {
			n++
		}
	}
	return n
}

// blast is how far a change reaches.
func blast(would []api.AssignResult) string {
	n := changing(would)
	return textf("blast radius: %d of %d %s would change, all at once", n, len(would), plural(len(would), "site")).text
}

func foresightTable(would []api.AssignResult) table {
	t := table{head: []string{"SITE", "NOW", "THEN", "CHANGE"}}
	for _, r := range would {
		what := text("none")
		switch {
		case r.Error != nil:
			what = cell{(&api.Error{Problem: *r.Error}).Error(), bad}
		case !r.Changed:
		case r.From == r.To:
			what = cell{"values, drift or scope", warn}
		case r.From == "":
			what = cell{"new", good}
		case r.To == "":
			what = cell{"removed", warn}
		default:
			what = cell{"version", good}
		}
		t.add(text(string(r.Site)), text(orDash(string(r.From))), text(orDash(string(r.To))), what)
	}
	return t
}
