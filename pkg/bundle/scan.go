package bundle

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"
)

// CheckCanonical says whether b is one value in canonical JSON, without building the value: B2 holds because there is
// exactly one spelling of every value and this accepts no other.
func CheckCanonical(b []byte) error {
	return scanCanonical(b, nil)
}

// scanCanonical calls visit, where it is given, for every member of the top object (parent is nil) and of the objects that it holds.
func scanCanonical(b []byte, visit func(parent, key, value []byte)) error {
	if !utf8.Valid(b) {
		return errors.New("not valid UTF-8")
	}
	s := scanner{reader: reader{b: b}, visit: visit}
	if err := s.scan(0); err != nil {
		return fmt.Errorf("at byte %d: %w", s.i, err)
	}
	if s.i != len(b) {
		return fmt.Errorf("at byte %d: data after the end of the value", s.i)
	}
	return nil
}

type scanner struct {
	reader
	visit  func(parent, key, value []byte)
	parent []byte // key of the object that is read, at depth 2
}

func (s *scanner) scan(depth int) error {
	c, err := s.peek()
	if err != nil {
		return err
	}
	switch c {
	case '{':
		return s.scanObject(depth + 1)
	case '[':
		return s.scanList(depth + 1)
	case '"':
		_, err := s.scanText()
		return err
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	case ' ', '\t', '\n', '\r':
		return errors.New("space between tokens")
	}
	return s.scanNumber()
}

func (s *scanner) scanObject(depth int) error {
	if depth > MaxDepth {
		return errDepth
	}
	s.i++
	if c, err := s.peek(); err == nil && c == '}' {
		s.i++
		return nil
	}
	var last []byte
	for first := true; ; first = false {
		key, err := s.scanText()
		if err != nil {
			return err
		}
		if !first {
			if order := compareKeys(last, key); order == 0 {
				return fmt.Errorf("duplicate key %.80q", key)
			} else if order > 0 {
				return fmt.Errorf("key %.80q stands after %.80q", key, last)
			}
		}
		last = key
		if err := s.expect(':'); err != nil {
			return err
		}
		if err := s.member(key, depth); err != nil {
			return err
		}
		more, err := s.scanMore('}')
		if err != nil || !more {
			return err
		}
	}
}

// member scans the value of a key, and reports it where it is a string near the top.
func (s *scanner) member(key []byte, depth int) error {
	if s.visit == nil || depth > 2 {
		return s.scan(depth)
	}
	if depth == 1 {
		s.parent = key
	}
	start := s.i
	if err := s.scan(depth); err != nil {
		return err
	}
	parent := s.parent
	if depth == 1 {
		parent = nil
	}
	s.visit(parent, key, s.b[start:s.i])
	return nil
}

func (s *scanner) scanList(depth int) error {
	if depth > MaxDepth {
		return errDepth
	}
	s.i++
	if c, err := s.peek(); err == nil && c == ']' {
		s.i++
		return nil
	}
	for {
		if err := s.scan(depth); err != nil {
			return err
		}
		more, err := s.scanMore(']')
		if err != nil || !more {
			return err
		}
	}
}

func (s *scanner) scanMore(end byte) (bool, error) {
	c, err := s.peek()
	if err != nil {
		return false, err
	}
	if c != ',' && c != end {
		return false, fmt.Errorf("%q where ',' or %q belongs", c, end)
	}
	s.i++
	return c == ',', nil
}

// scanText returns what stands between the quotes, still escaped.
func (s *scanner) scanText() ([]byte, error) {
	if err := s.expect('"'); err != nil {
		return nil, err
	}
	start := s.i
	b := s.b
	for i := s.i; i < len(b); i++ {
		c := b[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		s.i = i
		if c == '"' {
			s.i++
			return b[start:i], nil
		}
		if c < 0x20 {
			return nil, errors.New("a control character in a string")
		}
		n, err := s.scanEscape()
		if err != nil {
			return nil, err
		}
		i += n - 1
	}
	s.i = len(b)
	return nil, errEnd
}

// scanEscape returns the length of the escape at the cursor if it is the canonical one.
func (s *scanner) scanEscape() (int, error) {
	rest := s.b[s.i:]
	if len(rest) < 2 {
		return 0, errEnd
	}
	switch rest[1] {
	case '"', '\\', 'b', 'f', 'n', 'r', 't':
		return 2, nil
	case 'u':
		if len(rest) < 6 {
			return 0, errEnd
		}
		at := reader{b: rest[2:6]}
		if c, err := at.hex4(); err == nil && c < 0x20 && shortEscape(byte(c)) == 0 && rest[5] == hexDigits[c&15] {
			return 6, nil
		}
	}
	return 0, fmt.Errorf("the escape %.6q is not canonical", rest)
}

func (s *scanner) scanNumber() error {
	text, err := s.number()
	if err != nil {
		return err
	}
	if len(text) <= 18 && !bytes.ContainsAny(text, ".eE") && string(text) != "-0" {
		return nil // an int64 without leading zeros has one spelling
	}
	v, err := parseNumber(string(text))
	if err != nil {
		return err
	}
	want, err := appendValue(nil, v, 0)
	if err != nil {
		return err
	}
	if !bytes.Equal(text, want) {
		return fmt.Errorf("the number %.40s is not canonical, %s is", text, want)
	}
	return nil
}

// compareKeys orders two escaped keys by the bytes of their meaning.
func compareKeys(a, b []byte) int {
	if bytes.IndexByte(a, '\\') < 0 && bytes.IndexByte(b, '\\') < 0 {
		return bytes.Compare(a, b)
	}
	return bytes.Compare(unescape(a), unescape(b))
}

// unescape returns the meaning of text that scanText accepted.
func unescape(text []byte) []byte {
	if bytes.IndexByte(text, '\\') < 0 {
		return text
	}
	quoted := append(append([]byte{'"'}, text...), '"')
	r := reader{b: quoted}
	s, err := r.text()
	if err != nil {
		return text
	}
	return []byte(s)
}
