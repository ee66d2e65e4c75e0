package main

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// style is what a cell's colour means; the words always say it too.
type style int

const (
	plain style = iota
	good
	warn
	bad
	faint
	strong
)

var sequences = map[style]string{good: "\x1b[32m", warn: "\x1b[33m", bad: "\x1b[31m", faint: "\x1b[2m", strong: "\x1b[1m"}

// cell is one field of a table.
type cell struct {
	text  string
	style style
}

func text(s string) cell { return cell{text: s} }

func textf(format string, args ...any) cell { return cell{text: fmt.Sprintf(format, args...)} }

// table is rows under a head, columns two spaces apart. It is made without a terminal and drawn for one.
// The text/tabwriter of the standard library would count colours as columns.
type table struct {
	head []string
	rows [][]cell
	// none is said, as talk, when there are no rows.
	none string
}

func (t *table) add(cells ...cell) { t.rows = append(t.rows, cells) }

// draw writes the table. A width above 0 cuts lines to it.
func (t *table) draw(w io.Writer, width int, colour bool) error {
	widths := make([]int, len(t.head))
	for i, h := range t.head {
		widths[i] = len(h)
	}
	for _, row := range t.rows {
		for i := range row {
			row[i].text = printable(row[i].text)
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i].text))
		}
	}
	head := make([]cell, len(t.head))
	for i, h := range t.head {
		head[i] = cell{h, strong}
	}
	for _, row := range append([][]cell{head}, t.rows...) {
		if _, err := io.WriteString(w, line(row, widths, width, colour)); err != nil {
			return err
		}
	}
	return nil
}

func line(row []cell, widths []int, limit int, colour bool) string {
	var b strings.Builder
	column := 0
	for i, c := range row {
		value := c.text
		if limit > 0 && column+utf8.RuneCountInString(value) > limit {
			value = cut(value, limit-column)
		}
		if colour && sequences[c.style] != "" && value != "" {
			b.WriteString(sequences[c.style] + value + "\x1b[0m")
		} else {
			b.WriteString(value)
		}
		column += utf8.RuneCountInString(value)
		if rest := row[i+1:]; !blank(rest) {
			gap := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(value)+2)
			if limit > 0 && column+len(gap) >= limit {
				break
			}
			b.WriteString(gap)
			column += len(gap)
		}
	}
	return b.String() + "\n"
}

func blank(cells []cell) bool {
	for _, c := range cells {
		if c.text != "" {
			return false
		}
	}
	return true
}

// cut shortens s to n runes, the last of them an ellipsis.
func cut(s string, n int) string {
	runes := []rune(s)
	if len(runes) <= n {
		return s
	}
	if n < 1 {
		return ""
	}
	return string(runes[:n-1]) + "…"
}

// printable keeps a site's or an API server's words from steering the operator's terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return '·'
		}
		return r
	}, s)
}
