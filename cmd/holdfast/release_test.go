package main

import (
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

func TestCountersFollowVersions(t *testing.T) {
	order := []bundle.Version{"0.0.0-alpha.0", "0.0.0", "0.0.1", "0.1.0", "0.999.999", "1.0.0-alpha.2", "1.0.0-beta.1", "1.0.0-rc.1", "1.0.0-rc.10", "1.0.0", "1.0.1", "1.4.2+build.7", "1.10.0", "2.0.0", "999.999.999", "2026.1.1", "999999.999.999"}
	last := bundle.Counter(0)
	for _, v := range order {
		c, err := counterOf(v)
		if err != nil || c <= last {
			t.Errorf("%s: %d after %d, %v", v, c, last, err)
		}
		last = c
	}
	for _, v := range []bundle.Version{"1.0.0-rc.100", "1.0.0-snapshot", "1.0.0-0", "1.1000.0", "1000000.0.0", "99999999999999999999.0.0"} {
		if c, err := counterOf(v); err == nil {
			t.Errorf("%s: got %d", v, c)
		}
	}
}

func TestCreation(t *testing.T) {
	d := &desk{now: func() time.Time { return noon.Add(time.Millisecond) }}
	for _, c := range []struct {
		flag, epoch string
		want        time.Time
	}{
		{"", "", notRecorded}, {"now", "", noon}, {"now", "1", noon}, {"2026-03-01T14:00:00+02:00", "", noon},
		{"", "1772366400", noon}, {"", "1", time.Time{}}, {"", "x", time.Time{}}, {"yesterday", "", time.Time{}},
	} {
		t.Setenv("SOURCE_DATE_EPOCH", c.epoch)
		got, err := d.creation(c.flag)
		if (err != nil) != c.want.IsZero() || err == nil && got != c.want {
			t.Errorf("%q, %q: %v, %v; want %v", c.flag, c.epoch, got, err, c.want)
		}
	}
}
