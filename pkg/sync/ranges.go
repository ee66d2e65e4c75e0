package sync

import "sort"

// Range is a run of event sequences, both ends inclusive.
type Range struct{ From, To uint64 }

// maxRanges bounds a set. What does not fit is forgotten from the top: it is not acknowledged, so it comes again.
const maxRanges = 256

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

// hole is the first run below something in the set that is not in it; zero if there is none.
func (rs ranges) hole() Range {
	switch {
	case len(rs) == 0:
		return Range{}
	case rs[0].From > 1:
		return Range{1, rs[0].From - 1}
	case len(rs) > 1:
		return Range{rs[0].To + 1, rs[1].From - 1}
	}
	return Range{}
}

func (rs ranges) count() uint64 {
	total := uint64(0)
	for _, r := range rs {
		total += r.To - r.From + 1
	}
	return total
}
