package main

import (
	"maps"
	"strings"
	"testing"
)

func TestT30_OnlyWhatIsCalledCounts(t *testing.T) {
	called, err := findings(strings.NewReader(`{"config":{}}
{"finding":{"osv":"GO-1","trace":[{"module":"m","version":"v1.0.0","package":"p"}]}}
{"finding":{"osv":"GO-2","trace":[{"module":"n","version":"v2.0.0","package":"q","function":"F"},{"module":"ours","function":"main"}]}}`))
	if err != nil || len(called) != 1 || called["GO-2"] != "n@v2.0.0" {
		t.Fatalf("%v, %v", called, err)
	}
	if _, err := findings(strings.NewReader(`{"finding":`)); err == nil {
		t.Error("an answer that is cut off was taken")
	}
}

func TestT30_NothingIsAcceptedThatIsNotFound(t *testing.T) {
	known := map[string]string{}
	for id := range accepted {
		known[id] = "module@v1"
	}
	if err := judge(known); err != nil {
		t.Error(err)
	}
	more := maps.Clone(known)
	more["GO-9999-0001"] = "new@v1"
	if err := judge(more); err == nil || !strings.Contains(err.Error(), "GO-9999-0001 in new@v1 is called") {
		t.Errorf("another one: %v", err)
	}
	delete(known, "GO-2026-4529")
	if err := judge(known); err == nil || !strings.Contains(err.Error(), "take it off the list") {
		t.Errorf("one that is gone: %v", err)
	}
}
