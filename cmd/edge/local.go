package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/holdfast-fleet/holdfast/internal/edge/local"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// asking are the flags of a verb that speaks with a running agent.
type asking struct {
	data   string
	output string
}

// verb makes a command that speaks with the agent.
func (a *asking) verb(use, short string, shows bool, run func(cmd *cobra.Command, agent local.Client, args []string) error) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs}
	cmd.Flags().StringVar(&a.data, "data", cmp.Or(os.Getenv("HOLDFAST_EDGE_DATA"), "/var/lib/holdfast"), "the agent's data folder; default: $HOLDFAST_EDGE_DATA, else /var/lib/holdfast")
	if shows {
		cmd.Flags().StringVarP(&a.output, "output", "o", "table", "table, json or yaml")
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if a.output != "" && a.output != "table" && a.output != "json" && a.output != "yaml" {
			return fmt.Errorf("--output %q: want table, json or yaml", a.output)
		}
		err := run(cmd, local.Client{Dir: a.data}, args)
		var known *failure
		switch {
		case err == nil || asFailure(err, &known):
			return err
		case errors.Is(err, local.ErrAway):
			return failed(err, "is `holdfast-edge run --data "+a.data+"` running, as this user? Name its folder with --data")
		}
		return failed(err, "")
	}
	return cmd
}

// printable keeps what a cluster or a program at the site says from steering the terminal of whoever asks the agent.
type printable struct{ w io.Writer }

func (p printable) Write(b []byte) (int, error) {
	clean := bytes.Map(func(r rune) rune {
		if r != '\n' && (r == utf8.RuneError || !unicode.IsPrint(r)) {
			return '·'
		}
		return r
	}, b)
	if _, err := p.w.Write(clean); err != nil {
		return 0, err
	}
	return len(b), nil
}

// show writes value as JSON or YAML, or as the table for people.
func (a *asking) show(w io.Writer, value any, table func(w io.Writer)) error {
	if a.output == "table" {
		t := tabwriter.NewWriter(printable{w}, 0, 0, 2, ' ', 0)
		table(t)
		return t.Flush()
	}
	raw, err := json.MarshalIndent(value, "", "  ")
	if err == nil && a.output == "yaml" {
		raw, err = yaml.JSONToYAML(raw)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, strings.TrimSuffix(string(raw), "\n"))
	return err
}

func newStatus() *cobra.Command {
	a := &asking{}
	return a.verb("status", "Show what runs at this site, also while the hub is away", true, func(cmd *cobra.Command, agent local.Client, _ []string) error {
		s, err := agent.Status(cmd.Context())
		if err != nil {
			return err
		}
		return a.show(cmd.OutOrStdout(), s, func(w io.Writer) { writeStatus(w, s) })
	})
}

func writeStatus(w io.Writer, s local.Status) {
	state := s.State
	hub := "away"
	if s.Linked {
		hub = "connected"
	}
	cluster := "does not answer: " + state.Cluster.Message
	if state.Cluster.Reachable {
		cluster = "answers, version " + state.Cluster.Version
	}
	fmt.Fprintf(w, "site\t%s\nagent\t%s\nhub\t%s\ncluster\t%s\ntime\t%s, %s\n", state.Site, state.Agent, hub, cluster, state.At.UTC().Format(time.RFC3339), state.Clock.Quality)
	desired := fmt.Sprintf("assignment %d", state.Assignment)
	switch {
	case state.Desired.Stale != "":
		desired += ", stale: " + state.Desired.Stale
	case !state.Desired.AsOf.IsZero():
		desired += ", proven at " + state.Desired.AsOf.UTC().Format(time.RFC3339)
	default:
		desired += ", not proven since the agent started"
	}
	fmt.Fprintf(w, "desired\t%s\noutbox\t%d events wait\n", desired, state.Outbox.Next-1-state.Outbox.Acked)
	if state.Metered {
		fmt.Fprintf(w, "line\tmetered: says hello every %s\n", state.Beat(0))
	}
	if state.Store != "" {
		fmt.Fprintf(w, "store\t%s\n", state.Store)
	}
	if state.PutBack != "" {
		fmt.Fprintf(w, "memory\t%s\n", state.PutBack)
	}
	for _, b := range state.Busy {
		fmt.Fprintf(w, "busy\t%s, until %s: %s\n", b.Who, b.Until.UTC().Format(time.RFC3339), b.Reason)
	}
	if len(state.Bundles) > 0 {
		fmt.Fprintf(w, "\nBUNDLE\tDESIRED\tCURRENT\tPHASE\tDRIFT\tWHY\n")
	}
	for _, b := range state.Bundles {
		why := strings.TrimPrefix(b.Reason+": "+b.Message, ": ")
		if !b.Until.IsZero() {
			why += ", until " + b.Until.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\n", b.Name, cmp.Or(string(b.Desired), "–"), cmp.Or(string(b.Current), "–"), b.Phase, b.DriftCount, strings.TrimSuffix(why, ": "))
	}
}

func newEvents() *cobra.Command {
	a, limit := &asking{}, 50
	cmd := a.verb("events", "Show the newest events that this site keeps", true, func(cmd *cobra.Command, agent local.Client, _ []string) error {
		if limit < 1 || limit > local.MaxEvents {
			return fmt.Errorf("--limit %d: want 1 to %d", limit, local.MaxEvents)
		}
		events, err := agent.Events(cmd.Context(), limit)
		if err != nil {
			return err
		}
		return a.show(cmd.OutOrStdout(), events, func(w io.Writer) {
			fmt.Fprintln(w, "SEQ\tTIME\tCLOCK\tEVENT\tBUNDLE\tWHAT")
			for _, ev := range events {
				ref := string(ev.Bundle)
				if ev.Version != "" {
					ref += "@" + string(ev.Version)
				}
				what := strings.Join(strings.Fields(strings.Join([]string{ev.Object, ev.Reason, ev.Message}, " ")), " ")
				fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", ev.Sequence, ev.At.UTC().Format(time.RFC3339), ev.Clock, ev.Kind, cmp.Or(ref, "–"), what)
			}
		})
	})
	cmd.Flags().IntVar(&limit, "limit", limit, "how many")
	return cmd
}

func newBusy() *cobra.Command {
	a := &asking{}
	var length time.Duration
	var reason, who string
	var done bool
	cmd := a.verb("busy (--for DURATION --reason TEXT | --clear)", "Say that this site is not to be moved now", false, func(cmd *cobra.Command, agent local.Client, _ []string) error {
		if done {
			length = 0
		}
		if err := agent.Busy(cmd.Context(), who, length, reason); err != nil {
			return err
		}
		said := "busy for " + length.String() + ": nothing new begins, what runs is kept right"
		if done {
			said = "no longer busy"
		}
		_, err := fmt.Fprintln(cmd.ErrOrStderr(), said)
		return err
	})
	cmd.Long = cmd.Short + `.

First applies wait until it is over; what runs is kept right, and what was begun is finished. Programs can say it with a file in the folder busy/ of the
agent's data folder: its name is who, its text why, and it holds for as long as the file is there, at most ` + fleetsync.MaxBusy.String() + `.`
	f := cmd.Flags()
	f.DurationVar(&length, "for", 0, "how long, at most "+fleetsync.MaxBusy.String())
	f.StringVar(&reason, "reason", "", "why")
	f.StringVar(&who, "who", "operator", "who says it; each has one signal")
	f.BoolVar(&done, "clear", false, "take it back")
	cmd.MarkFlagsOneRequired("for", "clear")
	cmd.MarkFlagsMutuallyExclusive("for", "clear")
	return cmd
}

func newOverride() *cobra.Command {
	cmd := &cobra.Command{Use: "override", Short: "Declare, list and clear exceptions: changes that are on purpose and not to be put back"}
	var set fleetsync.OverrideSet
	adding := &asking{}
	add := adding.verb("add OBJECT --for DURATION --reason TEXT", "Leave what differs at an object as it is for a while", false, func(cmd *cobra.Command, agent local.Client, args []string) error {
		set.Object = args[0]
		if err := agent.Override(cmd.Context(), set); err != nil {
			return err
		}
		_, err := fmt.Fprintf(cmd.ErrOrStderr(), "%s is left as it is for %s\n", set.Object, set.For)
		return err
	})
	add.Args = cobra.ExactArgs(1)
	add.Long = add.Short + `.

What differs is reported, not put back. While one of the given paths differs the whole object is left. A new version of the bundle replaces it all the same.`
	add.Example = `  holdfast-edge override add Deployment.apps/shop/web --path /spec/replicas --for 4h --reason "sale"`
	f := add.Flags()
	f.DurationVar(&set.For, "for", 0, "how long, at most "+fleetsync.MaxOverride.String()+" (required)")
	f.StringVar(&set.Reason, "reason", "", "why (required)")
	f.StringVar(&set.Who, "who", "", "who declares it; default: the user")
	f.StringSliceVar(&set.Paths, "path", nil, "JSON `pointer` that may differ; default: all of the object")
	_ = add.MarkFlagRequired("for")
	_ = add.MarkFlagRequired("reason")
	listing := &asking{}
	list := listing.verb("list", "List the exceptions in force", true, func(cmd *cobra.Command, agent local.Client, _ []string) error {
		s, err := agent.Status(cmd.Context())
		if err != nil {
			return err
		}
		overrides := append([]fleetsync.OverrideStatus{}, s.State.Overrides...)
		return listing.show(cmd.OutOrStdout(), overrides, func(w io.Writer) {
			fmt.Fprintln(w, "OBJECT\tPATHS\tUNTIL\tWHO\tREASON")
			for _, o := range overrides {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", o.Object, cmp.Or(strings.Join(o.Paths, ","), "all"), o.Until.UTC().Format(time.RFC3339), o.Who, o.Reason)
			}
		})
	})
	clearing := &asking{}
	end := clearing.verb("clear OBJECT", "End an exception now: what differs is put right", false, func(cmd *cobra.Command, agent local.Client, args []string) error {
		return agent.ClearOverride(cmd.Context(), args[0])
	})
	end.Args = cobra.ExactArgs(1)
	cmd.AddCommand(add, list, end)
	return cmd
}

func newDoctor() *cobra.Command {
	a := &asking{}
	return a.verb("doctor", "Look for what is wrong at this site; exit code 1 if anything is", true, func(cmd *cobra.Command, agent local.Client, _ []string) error {
		s, err := agent.Status(cmd.Context())
		if err != nil {
			return err
		}
		found, wrong := local.Diagnose(s), 0
		err = a.show(cmd.OutOrStdout(), found, func(w io.Writer) {
			for _, f := range found {
				mark := "ok"
				if !f.OK {
					mark = "wrong"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\n", mark, f.What, f.Says)
				if f.Hint != "" {
					fmt.Fprintf(w, "\t\thint: %s\n", f.Hint)
				}
			}
		})
		for _, f := range found {
			if !f.OK {
				wrong++
			}
		}
		if err == nil && wrong > 0 {
			return failed(fmt.Errorf("%d of %d things are wrong", wrong, len(found)), "")
		}
		return err
	})
}

func newImport() *cobra.Command {
	a := &asking{}
	cmd := a.verb("import FILE", "Take what was carried here: the file that `holdfast site export` wrote", false, func(cmd *cobra.Command, agent local.Client, args []string) error {
		file, err := os.Open(args[0])
		if err != nil {
			return err
		}
		defer file.Close()
		got, err := agent.Import(cmd.Context(), file)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.ErrOrStderr(), "assignment %d with %d bundles is taken; `holdfast-edge status` shows what becomes of it\n", got.Assignment, got.Bundles)
		return err
	})
	cmd.Args = cobra.ExactArgs(1)
	cmd.Long = cmd.Short + `.

The rules of the bus hold: what is not signed, not meant for this site, older than what is here, or beyond its lease is refused or waits.`
	return cmd
}

func newExportReport() *cobra.Command {
	a := &asking{}
	out := ""
	cmd := a.verb("export-report -o FILE", "Write this site's signed report into a file, to be carried to the hub", false, func(cmd *cobra.Command, agent local.Client, _ []string) error {
		raw, err := agent.Report(cmd.Context())
		if err != nil {
			return err
		}
		file, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = file.Write(raw)
		if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.ErrOrStderr(), "the report is in %s; next, at the desk: holdfast report import %s\n", out, out)
		return err
	})
	cmd.Flags().StringVarP(&out, "output", "o", "", "`file` to write; it must not exist (required)")
	_ = cmd.MarkFlagRequired("output")
	return cmd
}
