package bundle

import (
	"cmp"
	"strconv"
	"strings"
)

// CompareVersions orders two parsed versions by precedence (semver.org 2.0.0 §11): negative if a is older than b.
// Build metadata is ignored.
func CompareVersions(a, b Version) int {
	coreA, preA := splitVersion(a)
	coreB, preB := splitVersion(b)
	if c := compareIdentifiers(coreA, coreB); c != 0 {
		return c
	}
	switch {
	case preA == "" && preB == "":
		return 0
	case preA == "":
		return 1
	case preB == "":
		return -1
	}
	return compareIdentifiers(preA, preB)
}

func splitVersion(v Version) (core, pre string) {
	s, _, _ := strings.Cut(string(v), "+")
	core, pre, _ = strings.Cut(s, "-")
	return core, pre
}

func compareIdentifiers(a, b string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(as), len(bs)) {
		na, errA := strconv.ParseUint(as[i], 10, 64)
		nb, errB := strconv.ParseUint(bs[i], 10, 64)
		var c int
		switch {
		case errA == nil && errB == nil:
			c = cmp.Compare(na, nb)
		case errA == nil:
			c = -1
		case errB == nil:
			c = 1
		default:
			c = cmp.Compare(as[i], bs[i])
		}
		if c != 0 {
			return c
		}
	}
	return cmp.Compare(len(as), len(bs))
}
