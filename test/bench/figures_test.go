package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestFiguresSayWhatIsMet(t *testing.T) {
	for _, c := range []struct {
		goal  goal
		value float64
		met   string
	}{
		{atMost(10), 9, "yes"}, {atMost(10), 10, "yes"}, {atMost(10), 10.1, "NO"},
		{atLeast(0.8), 0.9, "yes"}, {atLeast(0.8), 0.8, "yes"}, {atLeast(0.8), 0.79, "NO"},
		{goal{}, 1, ""},
	} {
		if met := c.goal.met(c.value); met != c.met {
			t.Errorf("%s with %v: %q, want %q", c.goal, c.value, met, c.met)
		}
	}
}

func TestFiguresAreOneFlatObject(t *testing.T) {
	f := &figures{}
	f.put("apply_ratio", 0.9049, "× bare loop", atLeast(0.8))
	f.note("full_bytes", 139204, "bytes")
	f.skip("memory", "no /proc here")
	raw, err := f.json()
	if err != nil {
		t.Fatal(err)
	}
	var flat map[string]float64
	if err := json.Unmarshal(raw, &flat); err != nil || len(flat) != 2 || flat["apply_ratio"] != 0.9049 {
		t.Errorf("%s: %v", raw, err)
	}
	for _, words := range []string{"0.905", "139204", "≥ 0.800", "yes", "left out: memory: no /proc here"} {
		if !strings.Contains(f.table(), words) {
			t.Errorf("%q is not in the table:\n%s", words, f.table())
		}
	}
}

func TestQuantilesAndMedians(t *testing.T) {
	values := []float64{5, 1, 4, 2, 3}
	if got := median(values); got != 3 {
		t.Errorf("median %v", got)
	}
	if got := median(values[:4]); got != 3 {
		t.Errorf("median of an even number %v", got)
	}
	if p50, p99 := quantile(values, 0.5), quantile(values, 0.99); p50 != 3 || p99 != 5 {
		t.Errorf("p50 %v, p99 %v", p50, p99)
	}
}
