package figures

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestFiguresSayWhatIsMet(t *testing.T) {
	for _, c := range []struct {
		goal  Goal
		value float64
		met   string
	}{
		{AtMost(10), 9, "yes"}, {AtMost(10), 10, "yes"}, {AtMost(10), 10.1, "NO"},
		{AtLeast(0.8), 0.9, "yes"}, {AtLeast(0.8), 0.8, "yes"}, {AtLeast(0.8), 0.79, "NO"},
		{Goal{}, 1, ""},
	} {
		if met := c.goal.met(c.value); met != c.met {
			t.Errorf("%s with %v: %q, want %q", c.goal, c.value, met, c.met)
		}
	}
}

func TestFiguresAreOneFlatObject(t *testing.T) {
	f := &Figures{}
	f.Put("apply_ratio", 0.9049, "× bare loop", AtLeast(0.8))
	f.Note("full_bytes", 139204, "bytes")
	f.Skip("memory", "no /proc here")
	raw, err := f.JSON()
	if err != nil {
		t.Fatal(err)
	}
	var flat map[string]float64
	if err := json.Unmarshal(raw, &flat); err != nil || len(flat) != 2 || flat["apply_ratio"] != 0.9049 {
		t.Errorf("%s: %v", raw, err)
	}
	for _, words := range []string{"0.905", "139204", "≥ 0.800", "yes", "left out: memory: no /proc here"} {
		if !strings.Contains(f.Table(), words) {
			t.Errorf("%q is not in the table:\n%s", words, f.Table())
		}
	}
}

func TestQuantilesAndMedians(t *testing.T) {
	values := []float64{5, 1, 4, 2, 3}
	if got := Median(values); got != 3 {
		t.Errorf("median %v", got)
	}
	if got := Median(values[:4]); got != 3 {
		t.Errorf("median of an even number %v", got)
	}
	if p50, p99 := Quantile(values, 0.5), Quantile(values, 0.99); p50 != 3 || p99 != 5 {
		t.Errorf("p50 %v, p99 %v", p50, p99)
	}
}
