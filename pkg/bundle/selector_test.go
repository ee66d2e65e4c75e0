package bundle_test

import (
	"strings"
	"testing"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"
)

var siteLabels = []map[string]string{nil, {"a": ""}, {"a": "b"}, {"a": "c", "x.io/y": "1"}, {"b": "a", "in": "notin"}, {"a": "b", "b": "c", "x.io/y": ""}}

// agree holds our reading of a selector against the one of apimachinery, which also knows < and >.
func agree(t interface{ Fatalf(string, ...any) }, text string) {
	ours, err := bundle.ParseSelector(text)
	if strings.ContainsRune(text, 0) { // apimachinery takes it for the end
		if err == nil {
			t.Fatalf("%q passed", text)
		}
		return
	}
	theirs, theirErr := labels.Parse(text)
	if err != nil {
		if theirErr == nil && !usesOrder(theirs) && len(text) <= 4096 {
			t.Fatalf("%q: %v, but apimachinery reads %q", text, err, theirs)
		}
		return
	}
	if theirErr != nil {
		t.Fatalf("%q: apimachinery says %v", text, theirErr)
	}
	for _, set := range siteLabels {
		if got, want := ours.Matches(set), theirs.Matches(labels.Set(set)); got != want {
			t.Fatalf("%q on %v: %v, apimachinery says %v", text, set, got, want)
		}
	}
}

func usesOrder(s labels.Selector) bool {
	requirements, _ := s.Requirements()
	for _, r := range requirements {
		if r.Operator() == "gt" || r.Operator() == "lt" {
			return true
		}
	}
	return false
}

func TestSelectorsReadAsKubernetesReadsThem(t *testing.T) {
	for _, text := range []string{"", "  ", "a", "!a", "a=b", "a==b", "a!=b", "a in (b,c)", "a notin (b)", "a in ()", "a in (,)", "a in (b,)", "a=", "a!=,b",
		"x.io/y", "x.io/y=1", "a = b , b", "in", "in in (notin)", "notin=in", "a in b", "a b", "a,", ",a", ",", "a==b=c", "!a=b", "!!a", "a!", "(a)", "a in (b", "a in (b c)",
		"a>1", "a<1", "-a", "a-", "a/", "/a", "a/b/c", "X.io/y", "a=b/c", "a=-", "é", "a=é", "a\tin\n(b)", "a in(b)", "a=b c", "in (a)", "a=in", "a in (in)", "a,a", "a=b,!a"} {
		agree(t, text)
	}
}

func TestSelectorsOfAnyFormReadAsKubernetesReadsThem(t *testing.T) {
	token := rapid.SampledFrom([]string{"a", "b", "c", "x.io/y", "in", "notin", "=", "==", "!=", "!", "(", ")", ",", " ", " ", "-", "1"})
	rapid.Check(t, func(t *rapid.T) {
		text := ""
		for _, s := range rapid.SliceOfN(token, 0, 12).Draw(t, "tokens") {
			text += s
		}
		agree(t, text)
	})
}

func FuzzParseSelector(f *testing.F) {
	f.Add("region=eu,tier in (a,b),!old")
	f.Add("x.io/y notin (a),b!=c")
	f.Fuzz(func(t *testing.T, text string) { agree(t, text) })
}

func TestKubernetesRange(t *testing.T) {
	for _, c := range []struct {
		text, version string
		want          bool
	}{
		{"", "garbage", true}, {">=1.29.0 <2.0.0", "v1.29.0", true}, {">=1.29.0 <2.0.0", "v1.28.9", false}, {">=1.29.0 <2.0.0", "v2.0.0", false},
		{">=1.29.3", "v1.29.3-gke.100", true}, {">1.29.3", "v1.29.3+k3s1", false}, {"=1.30.1", "1.30.1", true}, {"<=1.30.1", "1.30.2", false},
	} {
		r, err := bundle.ParseKubernetesRange(c.text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.Contains(c.version); err != nil || got != c.want {
			t.Errorf("%s in %q: %v, %v", c.version, c.text, got, err)
		}
	}
	for _, bad := range []string{"1.29.0", "~1.29.0", ">=1.29", ">=v1.29.0", ">= 1.29.0", ">=1.29.0-rc.1", ">=a.b.c", "=>1.0.0"} {
		if _, err := bundle.ParseKubernetesRange(bad); err == nil {
			t.Errorf("%q passed", bad)
		}
	}
	if r, _ := bundle.ParseKubernetesRange(">1.0.0"); r.String() != ">1.0.0" {
		t.Error("a range forgets its text")
	} else if _, err := r.Contains("1.x"); err == nil {
		t.Error("a version that is none is in a range")
	}
}

func TestReferences(t *testing.T) {
	for _, c := range []struct {
		text  string
		names int
		whole bool
		bad   bool
	}{
		{"plain", 0, false, false}, {"${{ params.a }}", 1, true, false}, {"x ${{ params.a }}-${{ params.b }}", 2, false, false},
		{"${{ params.a }} ", 1, false, false}, {"${{params.a}}", 0, false, true}, {"${{ params.a}}", 0, false, true}, {"${{ params.A }}", 0, false, true},
		{"${{ params. }}", 0, false, true}, {"${{ params.a", 0, false, true}, {"${{ secrets.x }}", 0, false, false}, {"$${{ params.a }}", 1, false, false},
		{"${{ params.a }}${{ params.", 0, false, true},
	} {
		names, whole, err := bundle.References(c.text)
		if len(names) != c.names || whole != c.whole || (err != nil) != c.bad {
			t.Errorf("%q: %v, %v, %v", c.text, names, whole, err)
		}
	}
	value := func(name string) any { return map[string]any{"a": int64(3), "b": "${{ params.a }}"}[name] }
	for text, want := range map[string]any{
		"${{ params.a }}": int64(3), "n${{ params.a }}": "n3", "${{ params.b }}": "${{ params.a }}", "${{ params.b }}${{ params.a }}": "${{ params.a }}3", "x": "x",
	} {
		if got := bundle.ReplaceReferences(text, value); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
