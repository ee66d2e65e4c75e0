package main

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/buildinfo"
)

// versions are the program's own, and the hub's where one was asked.
type versions struct {
	Version string       `json:"version"`
	Hub     *api.Version `json:"hub,omitempty"`
}

func newVersion(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version, and with --hub that of the hub",
		Example: "  holdfast version --hub",
		Args:    exactly(),
	}
	f := outputFlag(cmd)
	ask := cmd.Flags().Bool("hub", false, "ask the hub for its version too")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		v := versions{Version: buildinfo.Version()}
		if *ask {
			hub, err := d.hub()
			if err != nil {
				return err
			}
			answer, err := hub.Version(cmd.Context())
			if err != nil {
				return err
			}
			v.Hub = &answer
		}
		return d.show(*f, v, func() page {
			p := page{facts: []fact{{"holdfast", text(v.Version)}}}
			if v.Hub != nil {
				p.facts = append(p.facts, fact{"hub", text(v.Hub.Version)}, fact{"fleet", text(v.Hub.Fleet)})
			}
			return p
		})
	}
	return cmd
}
