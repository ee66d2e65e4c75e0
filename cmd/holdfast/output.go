package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// format is how data is written.
type format string

const (
	formatTable format = "table"
	formatJSON  format = "json"
	formatYAML  format = "yaml"
)

// Set, String and Type make format a flag.
func (f *format) Set(s string) error {
	switch format(s) {
	case formatTable, formatJSON, formatYAML:
		*f = format(s)
		return nil
	}
	return fmt.Errorf("want table, json or yaml")
}

func (f *format) String() string { return string(*f) }
func (f *format) Type() string   { return "format" }

// outputFlag adds -o to a verb that shows data.
func outputFlag(cmd *cobra.Command) *format {
	f := formatTable
	cmd.Flags().VarP(&f, "output", "o", "table, json or yaml")
	complete(cmd, "output", "table", "json", "yaml")
	return &f
}

// complete offers fixed words for a flag in shell completion.
func complete(cmd *cobra.Command, flag string, words ...string) {
	err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic(err) // only for a flag that does not exist
	}
}

// show writes value as JSON or YAML, or what page makes of it for people.
func (d *desk) show(f format, value any, page func() page) error {
	if f == formatTable {
		return d.draw(page())
	}
	raw, err := encode(f, value)
	if err != nil {
		return err
	}
	_, err = d.out.Write(raw)
	return err
}

// encode writes JSON with two spaces of indentation and a final newline, or the same document as YAML.
// A nil slice is an empty list: scripts iterate over it.
func encode(f format, value any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return nil, fmt.Errorf("output: %w", err)
	}
	raw := b.Bytes()
	if string(raw) == "null\n" {
		raw = []byte("[]\n")
	}
	if f == formatJSON {
		return raw, nil
	}
	out, err := yaml.JSONToYAML(raw)
	if err != nil {
		return nil, fmt.Errorf("output: %w", err)
	}
	return out, nil
}

// page is what people are shown: facts, then tables with a title each.
type page struct {
	facts  []fact
	tables []table
}

// fact is one line "Name:  value".
type fact struct {
	name  string
	value cell
}

func (d *desk) draw(p page) error {
	var b strings.Builder
	wide := 0
	for _, f := range p.facts {
		wide = max(wide, len(f.name))
	}
	for _, f := range p.facts {
		row := []cell{{f.name + ":", plain}, {printable(f.value.text), f.value.style}}
		b.WriteString(line(row, []int{wide + 1, 0}, d.width, d.colour))
	}
	shown := len(p.facts) > 0
	for i := range p.tables {
		t := &p.tables[i]
		if len(t.rows) == 0 {
			if t.none != "" {
				d.sayf("%s", t.none)
			}
			continue
		}
		if shown {
			b.WriteString("\n")
		}
		shown = true
		if err := t.draw(&b, d.width, d.colour); err != nil {
			return err
		}
	}
	_, err := d.out.Write([]byte(b.String()))
	return err
}

// completeSites offers the names of sites in shell completion, for the first argument. Without a hub it offers nothing.
func (d *desk) completeSites(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	hub, err := d.hub()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	sites, err := hub.Sites(cmd.Context(), "")
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, s := range sites {
		if strings.HasPrefix(string(s.ID), begun) {
			names = append(names, string(s.ID))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
