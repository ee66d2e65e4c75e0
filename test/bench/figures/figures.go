// Package figures holds what a benchmark measured: values with units and goals, as a table for people and as one flat JSON object.
package figures

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
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
	goal    Goal
}

// Goal is what a figure should be; the zero goal is none.
type Goal struct {
	bound float64
	most  bool // bound is the largest good value, otherwise the smallest
}

// AtMost wants a value that is not larger.
func AtMost(bound float64) Goal { return Goal{bound, true} }

// AtLeast wants a value that is not smaller.
func AtLeast(bound float64) Goal { return Goal{bound, false} }

func (g Goal) String() string {
	switch {
	case g == Goal{}:
		return ""
	case g.most:
		return "≤ " + Number(g.bound)
	}
	return "≥ " + Number(g.bound)
}

func (g Goal) met(value float64) string {
	switch {
	case g == Goal{}:
		return ""
	case g.most == (value < g.bound) || value == g.bound:
		return "yes"
	}
	return "NO"
}

// Figures is everything that was measured, in the order it came.
type Figures struct {
	all     []figure
	skipped []string
}

// Put adds a figure with what it should be.
func (f *Figures) Put(measure string, value float64, unit string, g Goal) {
	f.all = append(f.all, figure{measure, value, unit, g})
}

// Note adds a figure without a goal.
func (f *Figures) Note(measure string, value float64, unit string) {
	f.Put(measure, value, unit, Goal{})
}

// Skip says what is left out, and why.
func (f *Figures) Skip(what, why string) { f.skipped = append(f.skipped, what+": "+why) }

// Table is for people.
func (f *Figures) Table() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MEASURE\tVALUE\tUNIT\tGOAL\tMET")
	for _, x := range f.all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", x.measure, Number(x.value), x.unit, x.goal, x.goal.met(x.value))
	}
	_ = w.Flush()
	for _, skipped := range f.skipped {
		fmt.Fprintln(&b, "left out:", skipped)
	}
	return b.String()
}

// JSON is one flat object.
func (f *Figures) JSON() ([]byte, error) {
	flat := map[string]float64{}
	for _, x := range f.all {
		flat[x.measure] = x.value
	}
	raw, err := json.MarshalIndent(flat, "", "  ")
	return append(raw, '\n'), err
}

// Number shows three digits that matter, and whole numbers whole.
func Number(v float64) string {
	if v == math.Trunc(v) || math.Abs(v) >= 1000 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	digits := max(0, 2-int(math.Floor(math.Log10(math.Abs(v)))))
	return strconv.FormatFloat(v, 'f', min(digits, 4), 64)
}

// Quantile is the smallest value that at least the share q of the values do not exceed.
func Quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// Median is the middle, or the mean of the two in the middle.
func Median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// Ratios divides pairwise.
func Ratios(over, under []float64) []float64 {
	out := make([]float64, len(over))
	for i := range over {
		out[i] = over[i] / under[i]
	}
	return out
}

// Write leaves the JSON in a file, whose folder is made; an empty name leaves nothing.
func (f *Figures) Write(file string) error {
	if file == "" {
		return nil
	}
	raw, err := f.JSON()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, raw, 0o644)
}
