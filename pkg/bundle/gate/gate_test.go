package gate

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

func TestJudge(t *testing.T) {
	object := `{"metadata":{"generation":3},"spec":{"n":2,"secret":"canary"},"status":{"phase":"Running","n":2,"conditions":[{"type":"Ready","status":"True"}]}}`
	for name, c := range map[string]struct {
		ready, failed string
		want          Answer
	}{
		"a phase":                        {`object.status.phase == "Running"`, "", Ready},
		"another phase":                  {`object.status.phase == "Done"`, "", Waiting},
		"a condition":                    {`object.status.conditions.exists(c, c.type == "Ready" && c.status == "True")`, "", Ready},
		"two fields":                     {`object.status.n >= object.spec.n`, `object.status.phase == "Broken"`, Ready},
		"failed goes before ready":       {`true`, `object.status.phase == "Running"`, Failed},
		"a field that is not there":      {`object.status.observed == 3`, "", Waiting},
		"a field that need not be there": {`object.?status.?observed.orValue(3) == 3`, "", Ready},
		"not a bool after all":           {`object.status.phase`, "", Waiting},
		"failed cannot be evaluated":     {`true`, `object.status.broken`, Ready},
		"a value in the error":           {`int(object.spec.secret) == 1`, "", Waiting},
		"too costly": {`object.status.conditions.all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d,
			[1,2,3,4,5,6,7,8,9,10].all(e, [1,2,3,4,5,6,7,8,9,10].all(f, [1,2,3,4,5,6,7,8,9,10].all(g, a.type == "Ready")))))))`, "", Waiting},
	} {
		t.Run(name, func(t *testing.T) {
			g, err := Compile(bundle.HealthRule{Ready: c.ready, Failed: c.failed})
			if err != nil {
				t.Fatal(err)
			}
			var o map[string]any
			if err := json.Unmarshal([]byte(object), &o); err != nil {
				t.Fatal(err)
			}
			got, why := g.Judge(o)
			if got != c.want || (why == "") != (got == Ready) || strings.Contains(why, "canary") {
				t.Errorf("%v, %q; want %v", got, why, c.want)
			}
		})
	}
}

func TestP07_BadExpressionsDoNotCompile(t *testing.T) {
	for name, c := range map[string]struct{ ready, words string }{
		"nothing":             {"", "ready"},
		"half an expression":  {"object.status.", "Syntax error"},
		"another variable":    {"self.ready", "undeclared reference"},
		"a string":            {`"yes"`, "want a bool"},
		"a deep one":          {strings.Repeat("(", 300) + "true" + strings.Repeat(")", 300), "recursion"},
		"a long one":          {strings.Repeat("true && ", 1000) + "true", "size"},
		"what makes memory":   {`[1,2,3].map(x, x).size() == 3`, "undeclared reference"},
		"no clock, no random": {`now() == now()`, "undeclared reference"},
	} {
		if _, err := Compile(bundle.HealthRule{Ready: c.ready}); err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzCompile(f *testing.F) {
	f.Add(`object.status.phase == "Running"`)
	f.Add(`object.?a[0].orValue(1u) in [1.5, {"a": b"c"}]`)
	f.Fuzz(func(t *testing.T, expression string) {
		g, err := Compile(bundle.HealthRule{Ready: expression})
		if err == nil {
			g.Judge(map[string]any{"status": map[string]any{"phase": "Running"}})
		}
	})
}
