package main

import (
	"bufio"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
)

// gravity is how plainly the operator has to want an act.
type gravity int

const (
	// undone takes nothing away by itself: asked on a terminal, while a script has said by its command what it wants.
	undone gravity = iota
	// mended takes something away that can be given again: a yes, or --yes.
	mended
	// forGood wants the name of what it is about, or --yes.
	forGood
)

// destructive are the flags of a verb that takes something away.
func destructive(cmd *cobra.Command) *foresight {
	f := &foresight{}
	cmd.Flags().BoolVar(&f.dry, "dry-run", false, "show what it would take away and change nothing; exit with 8 if something would change")
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "do it without asking")
	return f
}

// destroy carries out an act that takes something away: its blast radius is shown first, and what it was is data afterwards. carryOut says what
// became of it.
func (d *desk) destroy(f format, asked *foresight, weight gravity, impact api.Impact, carryOut func() (said string, err error)) error {
	if asked.dry {
		return d.showImpact(f, impact)
	}
	if impact.Refused != nil {
		return errors.Join(d.drawImpact(impact), &api.Error{Problem: *impact.Refused})
	}
	if !asked.yes {
		if err := d.drawImpact(impact); err != nil {
			return err
		}
		if err := d.agreeTo(weight, impact.Target); err != nil {
			return err
		}
	}
	said, err := carryOut()
	if err != nil {
		return err
	}
	d.sayf("%s", said)
	impact.DryRun = false
	return d.show(f, impact, func() page { return page{tables: []table{lossTable(impact.Losses, "LOST")}} })
}

// drawImpact is talk, so that -o json stays one document.
func (d *desk) drawImpact(impact api.Impact) error {
	d.sayf("%s", blastOf(impact))
	t := lossTable(impact.Losses, "LOSES")
	if len(t.rows) == 0 {
		return nil
	}
	return t.draw(d.talk, 0, false)
}

// showImpact shows a dry run as data; its exit code says whether something would change or be refused.
func (d *desk) showImpact(f format, impact api.Impact) error {
	d.sayf("%s", blastOf(impact))
	if err := d.show(f, impact, func() page { return page{tables: []table{lossTable(impact.Losses, "LOSES")}} }); err != nil {
		return err
	}
	switch {
	case impact.Refused != nil:
		return &api.Error{Problem: *impact.Refused}
	case impact.Changed:
		return &failure{code: exitDifferent}
	}
	return nil
}

func blastOf(impact api.Impact) string {
	if !impact.Changed && impact.Refused == nil {
		return fmt.Sprintf("%s %s: nothing would change", impact.Act, impact.Target)
	}
	return fmt.Sprintf("%s %s: blast radius %d %s", impact.Act, impact.Target, impact.Sites, plural(impact.Sites, "site"))
}

func lossTable(losses []api.Loss, head string) table {
	t := table{head: []string{"KIND", "NAME", "SITE", head}}
	for _, l := range losses {
		style := warn
		if strings.HasPrefix(l.Loses, "nothing") {
			style = faint
		}
		t.add(text(l.Kind), text(l.Name), text(orDash(string(l.Site))), cell{l.Loses, style})
	}
	return t
}

// agreeTo asks as plainly as the act weighs. Without a terminal only --yes agrees, but to what takes nothing away by itself.
func (d *desk) agreeTo(weight gravity, name string) error {
	tty, err := d.terminal()
	if err != nil {
		if weight == undone {
			return nil
		}
		return d.agree(false)
	}
	if weight != forGood {
		tty.Close()
		return d.agree(false)
	}
	defer tty.Close()
	fmt.Fprintf(tty, "This is for good. Type %s to go on: ", name)
	answer, err := bufio.NewReader(tty).ReadString('\n')
	if strings.TrimSpace(answer) == name {
		return nil
	}
	return &failure{code: exitFailed, message: "nothing was done", hint: "type the name as it is shown", cause: err}
}
