package apply

import (
	"encoding/json"
	"errors"
	"fmt"
)

// errNotObject says that bytes which passed bundle's strict decoding are not what it promises: a fault of ours.
var errNotObject = errors.New("not a JSON object")

// span is a half-open range of bytes.
type span struct{ from, to int }

// member finds the value of a key of the object that stands at b[at:]. It reads b once and allocates nothing for what it skips,
// which matters for definitions of half a megabyte. b is valid JSON.
func member(b []byte, at int, key string) (span, bool, error) {
	i := skipSpace(b, at)
	if i >= len(b) || b[i] != '{' {
		return span{}, false, errNotObject
	}
	i = skipSpace(b, i+1)
	for i < len(b) && b[i] != '}' {
		start := i
		end, err := skipValue(b, i)
		if err != nil {
			return span{}, false, err
		}
		i = skipSpace(b, end)
		if i >= len(b) || b[i] != ':' {
			return span{}, false, errNotObject
		}
		value := skipSpace(b, i+1)
		valueEnd, err := skipValue(b, value)
		if err != nil {
			return span{}, false, err
		}
		if string(b[start:end]) == `"`+key+`"` {
			return span{value, valueEnd}, true, nil
		}
		i = skipSpace(b, valueEnd)
		if i < len(b) && b[i] == ',' {
			i = skipSpace(b, i+1)
		}
	}
	return span{}, false, nil
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skipValue gives the end of the value that begins at i.
func skipValue(b []byte, i int) (int, error) {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			i++
		case '{', '[':
			depth++
			i++
			continue
		case '}', ']':
			depth--
			i++
		case ',', ':', ' ', '\n', '\t', '\r':
			i++
			continue
		default:
			for i++; i < len(b) && b[i] != ',' && b[i] != '}' && b[i] != ']' && b[i] != ':' && b[i] > ' '; i++ {
			}
		}
		if depth <= 0 {
			return min(i, len(b)), nil
		}
	}
	return 0, errNotObject
}

// find gives the value at a path of keys.
func find(b []byte, path ...string) (at span, ok bool) {
	at = span{0, len(b)}
	for _, key := range path {
		next, ok, err := member(b, at.from, key)
		if !ok || err != nil {
			return span{}, false
		}
		at = next
	}
	return at, true
}

// has says that there is a value other than null at a path of keys.
func has(b []byte, path ...string) bool {
	at, ok := find(b, path...)
	return ok && string(b[at.from:at.to]) != "null"
}

// text reads the string at a path of keys, or "".
func text(b []byte, path ...string) string {
	at, ok := find(b, path...)
	if !ok {
		return ""
	}
	var s string
	if json.Unmarshal(b[at.from:at.to], &s) != nil {
		return ""
	}
	return s
}

// labelled adds Label with a value to an object's own metadata; templates and selectors inside stay as they are.
func labelled(b []byte, value string) ([]byte, error) {
	metadata, ok, err := member(b, 0, "metadata")
	if err != nil || !ok {
		return nil, fmt.Errorf("metadata: %w", errNotObject)
	}
	labels, ok, err := member(b, metadata.from, "labels")
	if err != nil {
		return nil, fmt.Errorf("metadata: %w", errNotObject)
	}
	if ok && string(b[labels.from:labels.to]) == "null" {
		return splice(b, labels, `{"`+Label+`":"`+value+`"}`), nil
	}
	if !ok {
		return insert(b, metadata.from, `"labels":{"`+Label+`":"`+value+`"}`)
	}
	_, taken, err := member(b, labels.from, Label)
	if err != nil {
		return nil, fmt.Errorf("metadata.labels: %w", errNotObject)
	}
	if taken {
		return nil, fmt.Errorf("label %s is Holdfast's own and may not stand in a bundle", Label)
	}
	return insert(b, labels.from, `"`+Label+`":"`+value+`"`)
}

// insert puts a member first into the object that begins at b[at].
func insert(b []byte, at int, member string) ([]byte, error) {
	if b[at] != '{' {
		return nil, errNotObject
	}
	if next := skipSpace(b, at+1); next < len(b) && b[next] != '}' {
		member += ","
	}
	return splice(b, span{at + 1, at + 1}, member), nil
}

func splice(b []byte, at span, text string) []byte {
	out := make([]byte, 0, len(b)+len(text))
	out = append(out, b[:at.from]...)
	out = append(out, text...)
	return append(out, b[at.to:]...)
}
