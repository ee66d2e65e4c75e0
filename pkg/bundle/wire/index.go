package wire

import (
	"encoding/binary"
	"math/bits"
	"sort"
)

const (
	window     = 8       // bytes that are hashed; no shorter match is found
	maxEntries = 8 << 20 // places of the older content that are indexed; of a longer one only every second, third …
	candidates = 24      // places that are compared for one match
)

// index finds the places of a text that may begin with given bytes. Places of one bucket are in ascending order.
type index struct {
	text   []byte
	stride int
	shift  int
	starts []uint32 // starts[b]:starts[b+1] are the places of bucket b
	places []uint32
}

func newIndex(text []byte) *index {
	x := &index{text: text, stride: 1 + len(text)/maxEntries}
	n := 0
	if len(text) >= window {
		n = (len(text)-window)/x.stride + 1
	}
	width := max(8, bits.Len(uint(n)))
	x.shift = 64 - width
	x.starts = make([]uint32, 1<<width+1)
	x.places = make([]uint32, n)
	for i := range n {
		x.starts[x.bucket(text[i*x.stride:])+1]++
	}
	for b := range 1 << width {
		x.starts[b+1] += x.starts[b]
	}
	fill := make([]uint32, 1<<width)
	for i := range n {
		b := x.bucket(text[i*x.stride:])
		x.places[x.starts[b]+fill[b]] = uint32(i * x.stride)
		fill[b]++
	}
	return x
}

func (x *index) bucket(b []byte) uint64 {
	return binary.LittleEndian.Uint64(b) * 0x9E3779B185EBCA87 >> x.shift
}

// near returns the indexed places that may begin as b does, those around the expected place.
func (x *index) near(b []byte, expected int) []uint32 {
	n := x.bucket(b)
	places := x.places[x.starts[n]:x.starts[n+1]]
	if len(places) <= candidates {
		return places
	}
	i := sort.Search(len(places), func(i int) bool { return int(places[i]) >= expected })
	from := min(max(0, i-candidates/2), len(places)-candidates)
	return places[from : from+candidates]
}
