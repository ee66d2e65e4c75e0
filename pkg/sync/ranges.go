package sync

import "sort"

// Range is a run of event sequences, both ends inclusive.
type Range struct {
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
}

// maxRanges bounds a set. What does not fit is forgotten from the top: it is not acknowledged, so it comes again.
const maxRanges = 1024

// ranges is a set of sequences from 1: ordered, disjoint runs that do not touch. Values are at most MaxSequence.
type ranges []Range

func (rs ranges) has(sequence uint64) bool {
	i := sort.Search(len(rs), func(i int) bool { return rs[i].To >= sequence })
	return i < len(rs) && rs[i].From <= sequence
}

// with is the set and added.
func (rs ranges) with(added Range) ranges {
	union := make(ranges, 0, len(rs)+1)
	for _, r := range rs {
		if r.From <= added.To+1 && added.From <= r.To+1 {
			added = Range{min(r.From, added.From), max(r.To, added.To)}
		} else {
			union = append(union, r)
		}
	}
	union = append(union, added)
	sort.Slice(union, func(i, j int) bool { return union[i].From < union[j].From })
	return union[:min(len(union), maxRanges)]
}

// upto is the end of the run that begins at 1.
func (rs ranges) upto() uint64 {
	if len(rs) == 0 || rs[0].From != 1 {
		return 0
	}
	return rs[0].To
}

// except is what is in the set and in none of the others.
func (rs ranges) except(others ranges) (left ranges) {
	for _, r := range rs {
		for _, other := range others {
			if other.To < r.From || r.To < other.From {
				continue
			}
			if r.From < other.From {
				left = append(left, Range{r.From, other.From - 1})
			}
			if r.From = other.To + 1; r.From > r.To {
				break
			}
		}
		if r.From <= r.To {
			left = append(left, r)
		}
	}
	return left
}

func (rs ranges) count() uint64 {
	total := uint64(0)
	for _, r := range rs {
		total += r.To - r.From + 1
	}
	return total
}
