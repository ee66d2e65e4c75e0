package bundle

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// KubernetesRange is a set of API server versions. The zero value holds every version.
type KubernetesRange struct {
	text        string
	comparators []comparator
}

type comparator struct {
	op      string
	version [3]int
}

// ParseKubernetesRange reads comparators joined by spaces, all of which must hold: ">=1.29.0 <2.0.0". The operators are >= <= > < and =.
func ParseKubernetesRange(text string) (KubernetesRange, error) {
	if len(text) > maxText {
		return KubernetesRange{}, fmt.Errorf("kubernetes range: longer than %d bytes", maxText)
	}
	r := KubernetesRange{text: text}
	for _, field := range strings.Fields(text) {
		number := strings.TrimLeft(field, "<>=")
		op := field[:len(field)-len(number)]
		switch op {
		case ">=", "<=", ">", "<", "=":
		default:
			return KubernetesRange{}, fmt.Errorf("kubernetes range %.80q: %.20q: want >=, <=, >, < or = and a version", text, field)
		}
		version, err := parseCore(number)
		if err != nil || strings.ContainsAny(number, "v-+") {
			return KubernetesRange{}, fmt.Errorf("kubernetes range %.80q: %.20q: want a version such as 1.29.0", text, field)
		}
		r.comparators = append(r.comparators, comparator{op, version})
	}
	return r, nil
}

// Contains says whether an API server's version, such as "v1.33.2-eks-1a2b3c", is in the range. Only major, minor and patch count:
// vendors write their own builds as if they were pre-releases.
func (r KubernetesRange) Contains(server string) (bool, error) {
	if len(r.comparators) == 0 {
		return true, nil
	}
	version, err := parseCore(server)
	if err != nil {
		return false, fmt.Errorf("kubernetes version %.40q: %w", server, err)
	}
	for _, c := range r.comparators {
		order := 0
		for i := range version {
			if order = cmp.Compare(version[i], c.version[i]); order != 0 {
				break
			}
		}
		holds := map[string]bool{">=": order >= 0, "<=": order <= 0, ">": order > 0, "<": order < 0, "=": order == 0}[c.op]
		if !holds {
			return false, nil
		}
	}
	return true, nil
}

func (r KubernetesRange) String() string { return r.text }

func parseCore(s string) (core [3]int, err error) {
	s = strings.TrimPrefix(s, "v")
	if i := strings.IndexAny(s, "-+"); i >= 0 {
		s = s[:i]
	}
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return core, errors.New("want major.minor.patch")
	}
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil {
			return core, errors.New("want major.minor.patch")
		}
		core[i] = int(n)
	}
	return core, nil
}
