package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// notRecorded is the creation time of a bundle built without one: a build that notes the time is another one each time.
var notRecorded = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// creation is the time a bundle is said to be created: --created, SOURCE_DATE_EPOCH (reproducible-builds.org), or none.
func (d *desk) creation(flag string) (time.Time, error) {
	if flag == "now" {
		return d.now().UTC().Truncate(time.Second), nil
	}
	if flag != "" {
		at, err := time.Parse(time.RFC3339, flag)
		if err != nil {
			return at, fmt.Errorf("--created %q: want now, or a time such as 2026-03-01T12:00:00Z", flag)
		}
		return at.UTC().Truncate(time.Second), nil
	}
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		return notRecorded, nil
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil || seconds < notRecorded.Unix() {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH %q: want seconds since 1970, in this century", epoch)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// counterOf makes a release counter of a version, so that versions in order have counters in order and the same input gives the same
// bytes: 1.4.2 is 1004002900, 1.4.2-rc.1 is 1004002301. Above 900 is room for rebuilds, whose counters only people can know.
func counterOf(v bundle.Version) (bundle.Counter, error) {
	core, _, _ := strings.Cut(string(v), "+")
	core, pre, isPre := strings.Cut(core, "-")
	var counter uint64
	for i, part := range strings.Split(core, ".") {
		n, err := strconv.ParseUint(part, 10, 64)
		if err != nil || i > 0 && n > 999 || n > 999_999 {
			return 0, noCounter(v, "part "+part)
		}
		counter = counter*1000 + n
	}
	counter *= 1000
	if !isPre {
		return bundle.Counter(counter + 900), nil
	}
	place, ok := preReleasePlace(pre)
	if !ok {
		return 0, noCounter(v, "pre-release "+pre)
	}
	return bundle.Counter(counter + place), nil
}

var preReleasePattern = regexp.MustCompile(`^(alpha|beta|rc)[.-]?(0|[1-9][0-9]?)$`)

// preReleasePlace orders the pre-releases whose order is known: alpha.0 to alpha.99, beta.0, …, rc.99.
func preReleasePlace(pre string) (uint64, bool) {
	m := preReleasePattern.FindStringSubmatch(pre)
	if m == nil {
		return 0, false
	}
	n, err := strconv.ParseUint(m[2], 10, 64)
	return map[string]uint64{"alpha": 100, "beta": 200, "rc": 300}[m[1]] + n, err == nil
}

func noCounter(v bundle.Version, because string) error {
	return &failure{code: exitUsage, message: fmt.Sprintf("version %s: no release counter can be made of its %s", v, because), hint: "give --counter N, higher than that of every earlier release of this name"}
}
