package rollout

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Duration is a span of time as plans write it: 90s, 30m, 4h, 14d, 2w, 1h30m. At most a year, never negative.
type Duration time.Duration

// maxDuration bounds a Duration, so that sums of a few of them cannot overflow.
const maxDuration = Duration(366 * 24 * time.Hour)

var longSpan = regexp.MustCompile(`^([0-9]{1,4})([dw])$`)

// ParseDuration reads a Duration.
func ParseDuration(s string) (Duration, error) {
	var d Duration
	if m := longSpan.FindStringSubmatch(s); m != nil {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			return 0, fmt.Errorf("duration %.40q: %w", s, err)
		}
		d = Duration(n) * Duration(24*time.Hour)
		if m[2] == "w" {
			d *= 7
		}
	} else {
		parsed, err := time.ParseDuration(s)
		if err != nil || len(s) > 40 {
			return 0, fmt.Errorf("duration %.40q: want a number and a unit, for example 90s, 30m, 4h or 14d", s)
		}
		d = Duration(parsed)
	}
	if d < 0 || d > maxDuration {
		return 0, fmt.Errorf("duration %.40q: want from 0 to 366 days", s)
	}
	return d, nil
}

// UnmarshalText reads what MarshalText wrote.
func (d *Duration) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDuration(string(text))
	return err
}

// MarshalText writes whole days as 14d and everything else as time.Duration does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

func (d Duration) String() string {
	if day := Duration(24 * time.Hour); d >= day && d%day == 0 {
		return strconv.Itoa(int(d/day)) + "d"
	}
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func (d Duration) after(t time.Time) time.Time { return t.Add(time.Duration(d)) }

// Amount is a number of sites, or a share of them in percent: 2 or "5%".
type Amount struct {
	Count   int
	Percent int // 1 to 100; 0: Count holds
}

var errAmount = errors.New(`want a number of sites, for example 2, or a share from "1%" to "100%"`)

// UnmarshalJSON reads a number or a string that ends in %.
func (a *Amount) UnmarshalJSON(raw []byte) error {
	var text string
	if err := json.Unmarshal(raw, &text); err == nil {
		digits, percent := strings.CutSuffix(text, "%")
		n, err := strconv.Atoi(digits)
		if err != nil || !percent || n < 1 || n > 100 {
			return fmt.Errorf("amount %.40q: %w", text, errAmount)
		}
		*a = Amount{Percent: n}
		return nil
	}
	var n int
	if err := json.Unmarshal(raw, &n); err != nil || n < 1 || n > maxSites {
		return fmt.Errorf("amount %.40s: %w", raw, errAmount)
	}
	*a = Amount{Count: n}
	return nil
}

// MarshalJSON writes what UnmarshalJSON reads.
func (a Amount) MarshalJSON() ([]byte, error) {
	if a.Percent > 0 {
		return json.Marshal(strconv.Itoa(a.Percent) + "%")
	}
	return json.Marshal(a.Count)
}

// of resolves the amount for size sites: at least one, rounded down, so that a share never takes more than it says.
func (a Amount) of(size int) int {
	if a.Percent > 0 {
		return max(1, size*a.Percent/100)
	}
	return a.Count
}
