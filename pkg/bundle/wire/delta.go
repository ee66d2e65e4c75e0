package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Delta returns what turns the content from into the content to. It is never longer than Compress(to) by more than a few bytes,
// but it may be no shorter: the caller compares.
func Delta(from, to []byte) ([]byte, error) {
	if len(from) > bundle.MaxContentSize || len(to) > bundle.MaxContentSize {
		return nil, fmt.Errorf("delta: %d and %d bytes, more than the %d allowed", len(from), len(to), bundle.MaxContentSize)
	}
	packed, err := Compress(makeSteps(from, to).encode())
	if err != nil {
		return nil, fmt.Errorf("delta: %w", err)
	}
	return packed, nil
}

// steps are the parts of a delta.
type steps struct {
	runs, copies, moves, literals []byte
	end                           int // of the last copy in the older content
}

func (s *steps) add(literals []byte, place, length int) {
	s.runs = binary.AppendUvarint(s.runs, uint64(len(literals)))
	s.copies = binary.AppendUvarint(s.copies, uint64(length))
	s.moves = binary.AppendVarint(s.moves, int64(place-s.end))
	s.literals = append(s.literals, literals...)
	s.end = place + length
}

func (s *steps) encode() []byte {
	b := make([]byte, 0, len(s.runs)+len(s.copies)+len(s.moves)+len(s.literals)+4*binary.MaxVarintLen64)
	for _, part := range [][]byte{s.runs, s.copies, s.moves, s.literals} {
		b = append(binary.AppendUvarint(b, uint64(len(part))), part...)
	}
	return b
}

func makeSteps(from, to []byte) *steps {
	s := new(steps)
	x := newIndex(from)
	done := 0 // bytes of to that the steps make
	for i := 0; i < len(to); {
		m := x.match(to, done, i, s.end)
		if m.gain <= 0 {
			// Where nothing has matched for long, look less often: a match found late still reaches back.
			i += 1 + min((i-done)/512, 64)
			continue
		}
		s.add(to[done:m.begin], m.place, m.length)
		done = m.begin + m.length
		i = done
	}
	if done < len(to) {
		s.add(to[done:], s.end, 0)
	}
	return s
}

// match is a stretch of to that also stands in from.
type match struct {
	begin, place, length int
	gain                 int // bytes that the match saves, roughly; it is used only if this is positive
}

// match finds the best match that covers to[i]. It may reach back to done. expected is where the older content would go on.
func (x *index) match(to []byte, done, i, expected int) match {
	best := match{}
	// Where as many bytes were put in as taken out, the older content goes on right here.
	if here := expected + i - done; here < len(x.text) {
		best = x.extend(to, done, i, here, expected)
	}
	if len(to)-i < window {
		return best
	}
	for _, place := range x.near(to[i:], expected+i-done) {
		if m := x.extend(to, done, i, int(place), expected); m.gain > best.gain {
			best = m
		}
	}
	return best
}

func (x *index) extend(to []byte, done, i, place, expected int) match {
	length := common(to[i:], x.text[place:])
	if length == 0 {
		return match{}
	}
	back := 0
	for i-back > done && place-back > 0 && to[i-back-1] == x.text[place-back-1] {
		back++
	}
	m := match{begin: i - back, place: place - back, length: length + back}
	move := m.place - expected
	if move < 0 {
		move = -move
	}
	// Steps compress worse than text: what a step costs was fitted to real upgrades (docs/adr/0003-delta.md).
	m.gain = m.length - 8 - 3*bits.Len(uint(move))
	return m
}

// common is how many bytes a and b have in common at their beginning.
func common(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for ; i+8 <= n; i += 8 {
		if diff := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); diff != 0 {
			return i + bits.TrailingZeros64(diff)/8
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}

var errShort = errors.New("a part ends too early")

// ApplyDelta makes the newer content of exactly size bytes from the older one. size comes from a verified manifest, delta from anywhere.
func ApplyDelta(from, delta []byte, size int64) ([]byte, error) {
	if size < 0 || size > bundle.MaxContentSize {
		return nil, fmt.Errorf("apply delta: %d bytes declared, more than the %d allowed", size, bundle.MaxContentSize)
	}
	plain, err := decompress(delta, 0, size+bundle.MaxObjectSize)
	if err != nil {
		return nil, fmt.Errorf("apply delta: %w", err)
	}
	s, err := decodeSteps(plain)
	if err != nil {
		return nil, fmt.Errorf("apply delta: %w", err)
	}
	to := make([]byte, 0, size)
	for len(s.runs) > 0 {
		if to, err = s.step(from, to, int(size)); err != nil {
			return nil, fmt.Errorf("apply delta: %w", err)
		}
	}
	if len(s.copies)+len(s.moves)+len(s.literals) > 0 {
		return nil, errors.New("apply delta: its parts do not end together")
	}
	if int64(len(to)) != size {
		return nil, fmt.Errorf("apply delta: %d bytes, %d were declared", len(to), size)
	}
	return to, nil
}

func decodeSteps(b []byte) (*steps, error) {
	s := new(steps)
	for _, part := range []*[]byte{&s.runs, &s.copies, &s.moves, &s.literals} {
		n, width := binary.Uvarint(b)
		if width <= 0 || n > uint64(len(b)-width) {
			return nil, errShort
		}
		*part = b[width : width+int(n)]
		b = b[width+int(n):]
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("%d bytes after the end", len(b))
	}
	return s, nil
}

// step appends what the next step makes.
func (s *steps) step(from, to []byte, size int) ([]byte, error) {
	run, n1 := binary.Uvarint(s.runs)
	length, n2 := binary.Uvarint(s.copies)
	move, n3 := binary.Varint(s.moves)
	if n1 <= 0 || n2 <= 0 || n3 <= 0 || run > uint64(len(s.literals)) {
		return nil, errShort
	}
	s.runs, s.copies, s.moves = s.runs[n1:], s.copies[n2:], s.moves[n3:]
	if run+length == 0 {
		return nil, errors.New("a step that makes nothing")
	}
	if length > uint64(len(from)) || move < -int64(s.end) || move > int64(len(from)-s.end) {
		return nil, errors.New("a copy from outside the older content")
	}
	place := s.end + int(move)
	if int(length) > len(from)-place {
		return nil, errors.New("a copy from outside the older content")
	}
	if int(run)+int(length) > size-len(to) {
		return nil, fmt.Errorf("more than the %d bytes declared", size)
	}
	to = append(to, s.literals[:run]...)
	s.literals = s.literals[run:]
	s.end = place + int(length)
	return append(to, from[place:s.end]...), nil
}
