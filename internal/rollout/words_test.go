package rollout

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Every code that is frozen has words of its own: nobody has to know what the engine calls things.
func TestP08_EveryReasonHasWords(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "reason.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	codes := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, is := n.(*ast.ValueSpec)
		if !is || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, "Hold") && !strings.HasPrefix(spec.Names[0].Name, "Move") {
			return true
		}
		value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		codes++
		r := Reason{Code: Code(value), Wave: "rest", Have: 1, Want: 2, Until: time.Unix(1e9, 0), Sites: []bundle.SiteID{"shop-1"}, Detail: "why"}
		if words := r.Words(); strings.Contains(words, value) || words == "wave rest: " {
			t.Errorf("%s: %q", value, words)
		}
		return true
	})
	if codes < 30 {
		t.Errorf("only %d codes were found", codes)
	}
}

func TestReasonsInWords(t *testing.T) {
	at := time.Date(2026, 11, 28, 5, 0, 0, 0, time.UTC)
	for want, r := range map[string]Reason{
		"wave canary: opened, 1 site":                                                         {Code: MoveOpened, Wave: "canary", Have: 1},
		"offered to shop-1, shop-2 and 5 more":                                                {Code: MoveOffered, Have: 7, Sites: []bundle.SiteID{"shop-1", "shop-2"}},
		"wave rest: blackout until 2026-11-28T05:00:00Z: Black Friday":                        {Code: HoldBlackout, Wave: "rest", Until: at, Detail: "Black Friday"},
		"wave rest: the deadline is over: waits for approval: 0 of 1 given":                   {Code: MoveInconclusive, Wave: "rest", Want: 1, Detail: deadlinePrefix + string(HoldApproval)},
		"sites went dark (3 of 9 comparable sites still report): shop-1":                      {Code: MoveInconclusive, Have: 3, Want: 9, Detail: "sites went dark", Sites: []bundle.SiteID{"shop-1"}},
		"wave a: 2 sites failed, at most 0 may: shop-1, shop-2":                               {Code: MoveFailures, Wave: "a", Have: 2, Sites: []bundle.SiteID{"shop-1", "shop-2"}},
		"fell silent while applying and failed: shop-1; 8 of 9 comparable sites still report": {Code: MoveDark, Have: 8, Want: 9, Sites: []bundle.SiteID{"shop-1"}},
		"wave a: as many sites of region \"sea\" are out of service as may be: 3 of 3":        {Code: HoldRegion, Wave: "a", Have: 3, Want: 3, Detail: "sea"},
		"wave a: waits for sites to report healthy once more, after the soak: 0 of 4 have":    {Code: HoldLateReports, Wave: "a", Want: 4},
		"wave a: no longer enough sites are healthy: 1 of 3; the soak begins anew":            {Code: MoveQuorumLost, Wave: "a", Have: 1, Want: 3},
		"paused: ann: the tills are slow":                                                     {Code: HoldPaused, Detail: "ann: the tills are slow"},
		"the hub has just started and judges nobody before 2026-11-28T05:00:00Z":              {Code: HoldGrace, Until: at},
		"the site was offline when its turn came; it is caught up when it returns":            {Code: HoldAway},
		"NeverHeardOf 1/2: of a later version":                                                {Code: "NeverHeardOf", Have: 1, Want: 2, Detail: "of a later version"},
	} {
		if got := r.Words(); got != want {
			t.Errorf("%s:\n got %q\nwant %q", r.Code, got, want)
		}
	}
}
