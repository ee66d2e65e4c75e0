package bundle

import (
	"regexp"
	"testing"

	"pgregory.net/rapid"
)

// TestPatternsCoverTheWholeValue compares with ^(?:…)$ for patterns in which the leftmost match is not the longest, is empty, or is anchored.
func TestPatternsCoverTheWholeValue(t *testing.T) {
	patterns := []string{"a|ab", "a*?", "(a|b)*", "", "^a", "a$", "^ab?$|b", "a{2,4}", "(?i)ab", `\ba`, "b*|a", "a(?:b|)"}
	rapid.Check(t, func(t *rapid.T) {
		p := Parameter{Name: "x", Type: TypeString, Pattern: rapid.SampledFrom(patterns).Draw(t, "pattern")}
		value := rapid.StringMatching("[abA\n ]{0,5}").Draw(t, "value")
		want := p.Pattern == "" || regexp.MustCompile(`^(?:`+p.Pattern+`)$`).MatchString(value)
		if got := p.CheckValue(value) == nil; got != want {
			t.Fatalf("pattern %q, value %q: %v, want %v", p.Pattern, value, got, want)
		}
	})
}

func BenchmarkCheckValue(b *testing.B) {
	p := Parameter{Name: "x", Type: TypeString, Pattern: `[\p{L}\p{N} .'&-]{1,60}`}
	for b.Loop() {
		if err := p.CheckValue("The Corner Shop"); err != nil {
			b.Fatal(err)
		}
	}
}
