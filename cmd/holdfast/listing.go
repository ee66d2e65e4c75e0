package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/holdfast-fleet/holdfast/internal/api"
)

// limitFlag adds --limit to a verb that lists.
func limitFlag(cmd *cobra.Command) *int {
	return cmd.Flags().Int("limit", 0, "at most so many (default: all there are)")
}

// showList writes a list as its pages come, so that of a whole fleet no more than a page is held; of a table, the words of its rows are.
func showList[T any](d *desk, f format, pages api.Pages[T], view func([]T) page) error {
	if f == formatTable {
		var whole page
		for items, err := range pages {
			if err != nil {
				return err
			}
			whole.append(view(items))
		}
		return d.draw(whole)
	}
	l := listWriter{out: d.out, format: f}
	for items, err := range pages {
		if err != nil {
			return err
		}
		for _, item := range items {
			if err := l.add(item); err != nil {
				return err
			}
		}
	}
	return l.end()
}

// append adds the rows of another page of the same list.
func (p *page) append(more page) {
	if len(p.tables) == 0 {
		*p = more
		return
	}
	for i := range more.tables {
		p.tables[i].rows = append(p.tables[i].rows, more.tables[i].rows...)
	}
}

// listWriter writes the document that encode would make of the whole list.
type listWriter struct {
	out    io.Writer
	format format
	count  int
}

func (l *listWriter) add(item any) error {
	l.count++
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("  ", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(item); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	raw := bytes.TrimRight(b.Bytes(), "\n")
	if l.format == formatYAML {
		raw, err := yaml.JSONToYAML(append(append([]byte{'['}, raw...), ']'))
		if err != nil {
			return fmt.Errorf("output: %w", err)
		}
		_, err = l.out.Write(raw)
		return err
	}
	begin := ",\n  "
	if l.count == 1 {
		begin = "[\n  "
	}
	_, err := l.out.Write(append([]byte(begin), raw...))
	return err
}

func (l *listWriter) end() error {
	end := ""
	switch {
	case l.count == 0:
		end = "[]\n"
	case l.format == formatJSON:
		end = "\n]\n"
	}
	_, err := io.WriteString(l.out, end)
	return err
}
