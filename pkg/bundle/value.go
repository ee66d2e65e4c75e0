package bundle

import (
	"errors"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

var errDepth = fmt.Errorf("JSON: nested deeper than %d levels", MaxDepth)

// DecodeValue reads one JSON value of at most limit bytes: nil, bool, int64, float64, string, []any or map[string]any. It is strict where
// encoding/json is not: a duplicate key, invalid UTF-8, half a surrogate pair, nesting deeper than MaxDepth and bytes after the value are errors.
// The result shares no memory with b.
func DecodeValue(b []byte, limit int) (any, error) {
	if len(b) > limit {
		return nil, fmt.Errorf("JSON: %d bytes, more than the %d allowed", len(b), limit)
	}
	if !utf8.Valid(b) {
		return nil, errors.New("JSON: not valid UTF-8")
	}
	r := reader{b: b}
	r.space()
	v, err := r.value(0)
	if err != nil {
		return nil, fmt.Errorf("JSON: at byte %d: %w", r.i, err)
	}
	r.space()
	if r.i != len(b) {
		return nil, fmt.Errorf("JSON: at byte %d: data after the end of the value", r.i)
	}
	return v, nil
}

// reader is a cursor over JSON text that is valid UTF-8.
type reader struct {
	b []byte
	i int
}

var errEnd = errors.New("unexpected end")

func (r *reader) space() {
	for r.i < len(r.b) {
		switch r.b[r.i] {
		case ' ', '\t', '\n', '\r':
			r.i++
		default:
			return
		}
	}
}

func (r *reader) peek() (byte, error) {
	if r.i >= len(r.b) {
		return 0, errEnd
	}
	return r.b[r.i], nil
}

func (r *reader) expect(c byte) error {
	got, err := r.peek()
	if err != nil {
		return err
	}
	if got != c {
		return fmt.Errorf("%q where %q belongs", got, c)
	}
	r.i++
	return nil
}

func (r *reader) value(depth int) (any, error) {
	c, err := r.peek()
	if err != nil {
		return nil, err
	}
	switch c {
	case '{':
		return r.object(depth + 1)
	case '[':
		return r.list(depth + 1)
	case '"':
		return r.text()
	case 't':
		return true, r.word("true")
	case 'f':
		return false, r.word("false")
	case 'n':
		return nil, r.word("null")
	}
	number, err := r.number()
	if err != nil {
		return nil, err
	}
	return parseNumber(string(number))
}

func (r *reader) word(w string) error {
	if len(r.b)-r.i < len(w) || string(r.b[r.i:r.i+len(w)]) != w {
		return errors.New("unknown word")
	}
	r.i += len(w)
	return nil
}

func (r *reader) object(depth int) (any, error) {
	if depth > MaxDepth {
		return nil, errDepth
	}
	r.i++
	m := map[string]any{}
	r.space()
	if c, err := r.peek(); err == nil && c == '}' {
		r.i++
		return m, nil
	}
	for {
		r.space()
		key, err := r.text()
		if err != nil {
			return nil, err
		}
		if _, twice := m[key]; twice {
			return nil, fmt.Errorf("duplicate key %.80q", key)
		}
		r.space()
		if err := r.expect(':'); err != nil {
			return nil, err
		}
		r.space()
		if m[key], err = r.value(depth); err != nil {
			return nil, err
		}
		more, err := r.more('}')
		if err != nil || !more {
			return m, err
		}
	}
}

func (r *reader) list(depth int) (any, error) {
	if depth > MaxDepth {
		return nil, errDepth
	}
	r.i++
	list := []any{}
	r.space()
	if c, err := r.peek(); err == nil && c == ']' {
		r.i++
		return list, nil
	}
	for {
		r.space()
		v, err := r.value(depth)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
		more, err := r.more(']')
		if err != nil || !more {
			return list, err
		}
	}
}

// more steps over a comma, or over the end of the collection.
func (r *reader) more(end byte) (bool, error) {
	r.space()
	c, err := r.peek()
	if err != nil {
		return false, err
	}
	if c != ',' && c != end {
		return false, fmt.Errorf("%q where ',' or %q belongs", c, end)
	}
	r.i++
	return c == ',', nil
}

func (r *reader) digits() int {
	start := r.i
	for r.i < len(r.b) && r.b[r.i] >= '0' && r.b[r.i] <= '9' {
		r.i++
	}
	return r.i - start
}

// number returns the text of a number that follows JSON's grammar.
func (r *reader) number() ([]byte, error) {
	start := r.i
	if r.i < len(r.b) && r.b[r.i] == '-' {
		r.i++
	}
	first := r.i
	n := r.digits()
	if n == 0 {
		return nil, errors.New("not a JSON value")
	}
	if n > 1 && r.b[first] == '0' {
		return nil, errors.New("a number with a leading zero")
	}
	if r.i < len(r.b) && r.b[r.i] == '.' {
		r.i++
		if r.digits() == 0 {
			return nil, errors.New("a number without digits after the point")
		}
	}
	if r.i < len(r.b) && (r.b[r.i] == 'e' || r.b[r.i] == 'E') {
		r.i++
		if r.i < len(r.b) && (r.b[r.i] == '+' || r.b[r.i] == '-') {
			r.i++
		}
		if r.digits() == 0 {
			return nil, errors.New("a number without digits in its exponent")
		}
	}
	return r.b[start:r.i], nil
}

func (r *reader) text() (string, error) {
	if err := r.expect('"'); err != nil {
		return "", err
	}
	start := r.i
	for r.i < len(r.b) && r.b[r.i] != '"' && r.b[r.i] != '\\' && r.b[r.i] >= 0x20 {
		r.i++
	}
	if r.i < len(r.b) && r.b[r.i] == '"' {
		r.i++
		return string(r.b[start : r.i-1]), nil
	}
	text := append([]byte(nil), r.b[start:r.i]...)
	for r.i < len(r.b) {
		c := r.b[r.i]
		r.i++
		switch {
		case c == '"':
			return string(text), nil
		case c < 0x20:
			return "", errors.New("a control character in a string")
		case c == '\\':
			var err error
			if text, err = r.escape(text); err != nil {
				return "", err
			}
		default:
			text = append(text, c)
		}
	}
	return "", errEnd
}

func (r *reader) escape(text []byte) ([]byte, error) {
	c, err := r.peek()
	if err != nil {
		return nil, err
	}
	r.i++
	switch c {
	case '"', '\\', '/':
		return append(text, c), nil
	case 'b':
		return append(text, '\b'), nil
	case 'f':
		return append(text, '\f'), nil
	case 'n':
		return append(text, '\n'), nil
	case 'r':
		return append(text, '\r'), nil
	case 't':
		return append(text, '\t'), nil
	case 'u':
		return r.unicode(text)
	}
	return nil, fmt.Errorf("unknown escape \\%c", c)
}

func (r *reader) unicode(text []byte) ([]byte, error) {
	high, err := r.hex4()
	if err != nil {
		return nil, err
	}
	if !utf16.IsSurrogate(high) {
		return utf8.AppendRune(text, high), nil
	}
	if err := r.word(`\u`); err != nil {
		return nil, errors.New("half a surrogate pair")
	}
	low, err := r.hex4()
	if err != nil {
		return nil, err
	}
	whole := utf16.DecodeRune(high, low)
	if whole == utf8.RuneError {
		return nil, errors.New("half a surrogate pair")
	}
	return utf8.AppendRune(text, whole), nil
}

func (r *reader) hex4() (rune, error) {
	if len(r.b)-r.i < 4 {
		return 0, errEnd
	}
	var v rune
	for _, c := range r.b[r.i : r.i+4] {
		switch {
		case c >= '0' && c <= '9':
			v = v<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			v = v<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			v = v<<4 | rune(c-'A'+10)
		default:
			return 0, fmt.Errorf("%q is not a hex digit", c)
		}
	}
	r.i += 4
	return v, nil
}
