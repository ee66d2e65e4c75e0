package bundle

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
)

func TestCanonicalHasOneSpelling(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{` { "b" : 1 , "a" : [ ] } `, `{"a":[],"b":1}`},
		{`1.0`, `1`}, {`-0.0`, `0`}, {`-0`, `0`}, {`1e3`, `1000`}, {`1.5`, `1.5`}, {`0.0000001`, `1e-7`}, {`1e21`, `1e+21`},
		{`9223372036854775807`, `9223372036854775807`}, {`-9223372036854775808`, `-9223372036854775808`},
		{`100000000000000000000`, `100000000000000000000`}, {`4.611686018427388e18`, `4611686018427387904`},
		{`"<>&\u2028\u00e9\/"`, "\"<>&\u2028é/\""}, {`"\u0000\u001f\n\"\\"`, `"\u0000\u001f\n\"\\"`},
		{`"\ud83d\ude00"`, `"😀"`}, {`{"\u0041":1,"B":{}}`, `{"A":1,"B":{}}`},
		{`[null,true,false]`, `[null,true,false]`},
	} {
		v, err := DecodeValue([]byte(c.in), 1<<10)
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		got, err := Canonical(v)
		if err != nil || string(got) != c.want {
			t.Errorf("%s: got %s, %v, want %s", c.in, got, err, c.want)
		}
		if err := CheckCanonical(got); err != nil {
			t.Errorf("%s: %v", got, err)
		}
		if c.in != c.want && CheckCanonical([]byte(c.in)) == nil {
			t.Errorf("%s passed for canonical", c.in)
		}
	}
}

func TestT13_JSONThatTwoReadersReadDifferently(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":1,"a":2}`:      "duplicate key",
		`{"a":1,"\u0061":2}`: "duplicate key",
		`{"a":1}{"b":2}`:     "after the end",
		`{"a":1} x`:          "after the end",
		`"\ud800"`:           "surrogate",
		`"\ud800\u0041"`:     "surrogate",
		"\"\xff\"":           "UTF-8",
		"\xef\xbb\xbf{}":     "not a JSON value",
		`01`:                 "leading zero",
		`1.`:                 "digits",
		`+1`:                 "not a JSON value",
		`1e999`:              "range",
		`NaN`:                "not a JSON value",
		`[1,]`:               "not a JSON value",
		`{"a":1,}`:           `'"' belongs`,
		"\"a\nb\"":           "control character",
		`"\x41"`:             "escape",
		`{'a':1}`:            "belongs",
		`/* */1`:             "not a JSON value",
		`tru`:                "unknown word",
		``:                   "unexpected end",
		`{"a"`:               "unexpected end",
	} {
		if _, err := DecodeValue([]byte(in), 1<<10); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", in, err, want)
		}
		if err := CheckCanonical([]byte(in)); err == nil {
			t.Errorf("%s passed for canonical", in)
		}
	}
}

func TestT11_DepthIsLimited(t *testing.T) {
	nest := func(n int) []byte { return []byte(strings.Repeat("[", n) + strings.Repeat("]", n)) }
	for n, ok := range map[int]bool{MaxDepth: true, MaxDepth + 1: false, 1 << 20: false} {
		if _, err := DecodeValue(nest(n), 4<<20); (err == nil) != ok {
			t.Errorf("decoding depth %d: %v", n, err)
		}
		if err := CheckCanonical(nest(n)); (err == nil) != ok {
			t.Errorf("checking depth %d: %v", n, err)
		}
	}
	var v any = map[string]any{}
	for range MaxDepth {
		v = map[string]any{"a": v}
	}
	if _, err := Canonical(v); err == nil {
		t.Error("encoded too deep a value")
	}
	if _, err := DecodeValue([]byte(`"abc"`), 4); err == nil {
		t.Error("read more than its limit")
	}
}

func TestCanonicalRefusesWhatJSONCannotSay(t *testing.T) {
	for _, v := range []any{math.NaN(), math.Inf(1), "\xff", map[string]any{"\xff": 1}, struct{}{}, json.Number("x")} {
		if b, err := Canonical(v); err == nil {
			t.Errorf("%v became %s", v, b)
		}
	}
}

// FuzzCanonical holds the check without a value against the way over the value, and the strict reader against encoding/json.
func FuzzCanonical(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5,"x\n",{}],"b":null}`, `1e21`, `-0`, `"\u001f"`, `{"\"":1,"a":2}`, `{"a":1,"\"":2}`, `[1e-7,123456789012345678901]`, `"\u001F"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := DecodeValue(b, 1<<16)
		if err != nil {
			if CheckCanonical(b) == nil && len(b) <= 1<<16 {
				t.Fatalf("%q is canonical and not readable: %v", b, err)
			}
			return
		}
		var loose any
		if err := json.Unmarshal(b, &loose); err != nil {
			t.Fatalf("%q: encoding/json refuses it: %v", b, err)
		}
		again, err := Canonical(v)
		if err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		if canonical := CheckCanonical(b) == nil; canonical != bytes.Equal(again, b) {
			t.Fatalf("%q: canonical %v, but its spelling is %q", b, canonical, again)
		}
		if err := CheckCanonical(again); err != nil {
			t.Fatalf("%q: %v", again, err)
		}
	})
}
