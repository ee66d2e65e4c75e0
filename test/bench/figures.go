package main

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// figure is one measured value.
type figure struct {
	measure string
	value   float64
	unit    string
	goal    goal
}

// goal is what a figure should be; the zero goal is none.
type goal struct {
	bound float64
	most  bool // bound is the largest good value, otherwise the smallest
}

func atMost(bound float64) goal  { return goal{bound, true} }
func atLeast(bound float64) goal { return goal{bound, false} }

func (g goal) String() string {
	switch {
	case g == goal{}:
		return ""
	case g.most:
		return "≤ " + number(g.bound)
	}
	return "≥ " + number(g.bound)
}

func (g goal) met(value float64) string {
	switch {
	case g == goal{}:
		return ""
	case g.most == (value < g.bound) || value == g.bound:
		return "yes"
	}
	return "NO"
}

// figures is everything that was measured, in the order it came.
type figures struct {
	all     []figure
	skipped []string
}

func (f *figures) put(measure string, value float64, unit string, g goal) {
	f.all = append(f.all, figure{measure, value, unit, g})
}

// note adds a figure without a goal.
func (f *figures) note(measure string, value float64, unit string) {
	f.put(measure, value, unit, goal{})
}

// skip says what is left out, and why.
func (f *figures) skip(what, why string) { f.skipped = append(f.skipped, what+": "+why) }

func (f *figures) table() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MEASURE\tVALUE\tUNIT\tGOAL\tMET")
	for _, x := range f.all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", x.measure, number(x.value), x.unit, x.goal, x.goal.met(x.value))
	}
	_ = w.Flush()
	for _, skipped := range f.skipped {
		fmt.Fprintln(&b, "left out:", skipped)
	}
	return b.String()
}

func (f *figures) json() ([]byte, error) {
	flat := map[string]float64{}
	for _, x := range f.all {
		flat[x.measure] = x.value
	}
	raw, err := json.MarshalIndent(flat, "", "  ")
	return append(raw, '\n'), err
}

// number shows three digits that matter, and whole numbers whole.
func number(v float64) string {
	if v == math.Trunc(v) || math.Abs(v) >= 1000 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	digits := max(0, 2-int(math.Floor(math.Log10(math.Abs(v)))))
	return strconv.FormatFloat(v, 'f', min(digits, 4), 64)
}

// quantile is the smallest value that at least the share q of the values do not exceed.
func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// ratios divides pairwise.
func ratios(over, under []float64) []float64 {
	out := make([]float64, len(over))
	for i := range over {
		out[i] = over[i] / under[i]
	}
	return out
}
