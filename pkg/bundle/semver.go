package bundle

import (
	"cmp"
	"strings"
)

// CompareVersions orders two valid versions by semver's precedence: -1, 0 or +1. Build metadata ("+…") has no part in it.
func CompareVersions(a, b Version) int {
	coreA, preA := splitVersion(string(a))
	coreB, preB := splitVersion(string(b))
	for i := range coreA {
		if c := compareDigits(coreA[i], coreB[i]); c != 0 {
			return c
		}
	}
	switch {
	case preA == preB:
		return 0
	case preA == "": // a release stands above its own pre-releases
		return 1
	case preB == "":
		return -1
	}
	return comparePre(strings.Split(preA, "."), strings.Split(preB, "."))
}

func splitVersion(v string) (core [3]string, pre string) {
	v, _, _ = strings.Cut(v, "+")
	v, pre, _ = strings.Cut(v, "-")
	copy(core[:], strings.SplitN(v, ".", 3))
	return core, pre
}

// compareDigits compares numbers of any length that have no leading zeros.
func compareDigits(a, b string) int {
	if c := cmp.Compare(len(a), len(b)); c != 0 {
		return c
	}
	return cmp.Compare(a, b)
}

func comparePre(a, b []string) int {
	for i := range min(len(a), len(b)) {
		numA, numB := isDigits(a[i]), isDigits(b[i])
		var c int
		switch {
		case numA && numB:
			c = compareDigits(a[i], b[i])
		case numA:
			c = -1
		case numB:
			c = 1
		default:
			c = cmp.Compare(a[i], b[i])
		}
		if c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

func isDigits(s string) bool {
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != ""
}
