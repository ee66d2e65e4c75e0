// Package storetest is the suite that every fleetsync.Store passes: the real one and its twin.
package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-fleet/holdfast/internal/store/record"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// Open opens the same data each time it is called. The suite closes the store before it opens the next.
type Open func(t *testing.T) fleetsync.Store

// Run checks an implementation. fresh gives the Open of an empty store.
func Run(t *testing.T, fresh func(t *testing.T) Open) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, open Open)
	}{
		{"missing key", testMissing},
		{"scan order and prefixes", testScan},
		{"scan stops at an error", testScanStops},
		{"scan sees one moment", testScanSnapshot},
		{"delete", testDelete},
		{"later record of a commit wins", testRepeatedKey},
		{"empty value is a value", testEmptyValue},
		{"bytes are the caller's", testOwnership},
		{"limits", testLimits},
		{"refused commit changes nothing", testRefusedIsNothing},
		{"reopen", testReopen},
		{"concurrent commits", testConcurrent},
		{"many large values", testLarge},
		{"model", testModel},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, fresh(t)) })
	}
}

func put(key, value string) fleetsync.Record {
	return fleetsync.Record{Key: key, Value: []byte(value)}
}

func commit(t *testing.T, s fleetsync.Store, records ...fleetsync.Record) {
	t.Helper()
	if err := s.Commit(records...); err != nil {
		t.Fatalf("commit: %v", err)
	}
}

func closeIt(t *testing.T, s fleetsync.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

func opened(t *testing.T, open Open) fleetsync.Store {
	t.Helper()
	s := open(t)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// keys lists what a scan of prefix gives, as key=value.
func keys(t *testing.T, s fleetsync.Store, prefix string) []string {
	t.Helper()
	var got []string
	if err := s.Scan(prefix, func(k string, v []byte) error {
		got = append(got, k+"="+string(v))
		return nil
	}); err != nil {
		t.Fatalf("scan %q: %v", prefix, err)
	}
	return got
}

func testMissing(t *testing.T, open Open) {
	s := opened(t, open)
	if _, err := s.Get("nothing"); !errors.Is(err, fleetsync.ErrNotFound) {
		t.Errorf("got %v, want not found", err)
	}
	if got := keys(t, s, ""); len(got) != 0 {
		t.Errorf("an empty store holds %q", got)
	}
	commit(t, s, put("ab", "1"))
	for _, k := range []string{"a", "abc", "AB", "b"} {
		if _, err := s.Get(k); !errors.Is(err, fleetsync.ErrNotFound) {
			t.Errorf("%q: got %v, want not found", k, err)
		}
	}
}

func testScan(t *testing.T, open Open) {
	s := opened(t, open)
	commit(t, s, put("b/2", "4"), put("a", "1"), put("b/10", "3"), put("b", "2"))
	commit(t, s, put("b0", "5"), put("c\xff", "6"), put("c\xff\xff", "7"), put("c\x00", "8"), put("\xff", "9"))
	for _, c := range []struct {
		prefix string
		want   []string
	}{
		{"", []string{"a=1", "b=2", "b/10=3", "b/2=4", "b0=5", "c\x00=8", "c\xff=6", "c\xff\xff=7", "\xff=9"}},
		{"b", []string{"b=2", "b/10=3", "b/2=4", "b0=5"}},
		{"b/", []string{"b/10=3", "b/2=4"}},
		{"b/10", []string{"b/10=3"}},
		{"b/100", nil},
		{"c\xff", []string{"c\xff=6", "c\xff\xff=7"}},
		{"\xff", []string{"\xff=9"}},
		{"zz", nil},
	} {
		if got := keys(t, s, c.prefix); !slices.Equal(got, c.want) {
			t.Errorf("scan %q: got %q, want %q", c.prefix, got, c.want)
		}
	}
}

func testScanStops(t *testing.T, open Open) {
	s := opened(t, open)
	commit(t, s, put("a", "1"), put("b", "2"), put("c", "3"))
	stop := errors.New("enough")
	n := 0
	err := s.Scan("", func(string, []byte) error {
		if n++; n == 2 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || n != 2 {
		t.Errorf("got %v after %d records, want %v after 2", err, n, stop)
	}
}

func testScanSnapshot(t *testing.T, open Open) {
	s := opened(t, open)
	commit(t, s, put("a", "1"), put("b", "2"), put("c", "3"))
	var got []string
	err := s.Scan("", func(k string, v []byte) error {
		got = append(got, k+"="+string(v))
		// Committing from inside a scan must neither block nor be seen by it.
		return s.Commit(put("c", "changed"), put("d", "new"), fleetsync.Record{Key: "b"})
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"a=1", "b=2", "c=3"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := keys(t, s, ""), []string{"a=1", "c=changed", "d=new"}; !slices.Equal(got, want) {
		t.Errorf("afterwards: got %q, want %q", got, want)
	}
}

func testDelete(t *testing.T, open Open) {
	s := opened(t, open)
	commit(t, s, put("a", "1"), put("b", "2"))
	commit(t, s, fleetsync.Record{Key: "a"}, fleetsync.Record{Key: "never there"})
	if _, err := s.Get("a"); !errors.Is(err, fleetsync.ErrNotFound) {
		t.Errorf("got %v, want not found", err)
	}
	if got, want := keys(t, s, ""), []string{"b=2"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	commit(t, s, put("a", "again"))
	closeIt(t, s)
	s = opened(t, open)
	if got, want := keys(t, s, ""), []string{"a=again", "b=2"}; !slices.Equal(got, want) {
		t.Errorf("after reopening: got %q, want %q", got, want)
	}
}

func testRepeatedKey(t *testing.T, open Open) {
	s := opened(t, open)
	commit(t, s, put("a", "1"), fleetsync.Record{Key: "a"}, put("a", "2"), put("b", "1"), fleetsync.Record{Key: "b"})
	closeIt(t, s)
	s = opened(t, open)
	if got, want := keys(t, s, ""), []string{"a=2"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func testEmptyValue(t *testing.T, open Open) {
	s := opened(t, open)
	commit(t, s, fleetsync.Record{Key: "a", Value: []byte{}})
	v, err := s.Get("a")
	if err != nil || v == nil || len(v) != 0 {
		t.Errorf("got %v, %v, want an empty value that is not nil", v, err)
	}
	if got, want := keys(t, s, ""), []string{"a="}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func testOwnership(t *testing.T, open Open) {
	s := opened(t, open)
	value := []byte("value")
	commit(t, s, fleetsync.Record{Key: "a", Value: value})
	value[0] = 'X'
	got, err := s.Get("a")
	if err != nil || string(got) != "value" {
		t.Fatalf("after the caller changed its bytes: %q, %v", got, err)
	}
	got[0] = 'Y'
	if again, err := s.Get("a"); err != nil || string(again) != "value" {
		t.Errorf("after the reader changed its bytes: %q, %v", again, err)
	}
}

func testLimits(t *testing.T, open Open) {
	s := opened(t, open)
	many := make([]fleetsync.Record, record.MaxRecords+1)
	for i := range many {
		many[i] = put(fmt.Sprint("many/", i), "")
	}
	half := func(key string) fleetsync.Record {
		return fleetsync.Record{Key: key, Value: make([]byte, record.MaxCommit/3+1)}
	}
	for _, c := range []struct {
		name    string
		records []fleetsync.Record
		want    error // nil: taken
		text    string
	}{
		{"longest key", []fleetsync.Record{put(strings.Repeat("k", record.MaxKey), "v")}, nil, ""},
		{"largest value", []fleetsync.Record{{Key: "v", Value: make([]byte, record.MaxValue)}}, nil, ""},
		{"two of the largest values", []fleetsync.Record{{Key: "v", Value: make([]byte, record.MaxValue)}, {Key: "w", Value: make([]byte, record.MaxValue)}}, nil, ""},
		{"most records", many[1:], nil, ""},
		{"most deletes of long keys", longDeletes(), nil, ""},
		{"key too long", []fleetsync.Record{put(strings.Repeat("k", record.MaxKey+1), "v")}, record.ErrTooLarge, "key"},
		{"value too large", []fleetsync.Record{{Key: "v", Value: make([]byte, record.MaxValue+1)}}, record.ErrTooLarge, "value"},
		{"too many records", many, record.ErrTooLarge, "transaction"},
		{"too many bytes", []fleetsync.Record{half("x"), half("y"), half("z")}, record.ErrTooLarge, "transaction"},
	} {
		err := s.Commit(c.records...)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		if c.want != nil && !strings.Contains(fmt.Sprint(err), c.text) {
			t.Errorf("%s: %v does not say %q", c.name, err, c.text)
		}
	}
	if err := s.Commit(put("", "v")); err == nil {
		t.Error("an empty key was taken")
	}
	if err := s.Commit(); err != nil {
		t.Errorf("empty commit: %v", err)
	}
	commit(t, s, put("after", "all that"))
}

func longDeletes() []fleetsync.Record {
	var r []fleetsync.Record
	for i := range record.MaxCommit / (record.MaxKey + record.Overhead) {
		r = append(r, fleetsync.Record{Key: fmt.Sprintf("%0*d", record.MaxKey, i)})
	}
	return r
}

func testRefusedIsNothing(t *testing.T, open Open) {
	s := opened(t, open)
	commit(t, s, put("a", "1"))
	if err := s.Commit(put("a", "2"), fleetsync.Record{Key: "big", Value: make([]byte, record.MaxValue+1)}, put("b", "3")); err == nil {
		t.Fatal("taken")
	}
	if got, want := keys(t, s, ""), []string{"a=1"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func testReopen(t *testing.T, open Open) {
	for round := range 5 {
		s := open(t)
		var want []string
		for i := range round {
			want = append(want, fmt.Sprintf("k/%d=%d", i, i))
		}
		if got := keys(t, s, "k/"); !slices.Equal(got, want) {
			t.Errorf("round %d: got %q, want %q", round, got, want)
		}
		commit(t, s, put(fmt.Sprint("k/", round), fmt.Sprint(round)))
		closeIt(t, s)
		closeIt(t, s)
		if err := s.Commit(put("after", "close")); err == nil {
			t.Errorf("round %d: a closed store took a commit", round)
		}
	}
}

func testConcurrent(t *testing.T, open Open) {
	const writers, each = 8, 20
	s := opened(t, open)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				pair := fmt.Sprintf("%d.%02d", w, i)
				if err := s.Commit(put("left/"+pair, pair), put("right/"+pair, pair), put("shared", pair)); err != nil {
					t.Errorf("commit: %v", err)
				}
				if v, err := s.Get("left/" + pair); err != nil || string(v) != pair {
					t.Errorf("read what was just committed: %q, %v", v, err)
				}
			}
		})
		wg.Go(func() {
			for range each {
				n := 0
				if err := s.Scan("", func(k string, _ []byte) error {
					switch {
					case strings.HasPrefix(k, "left/"):
						n++
					case strings.HasPrefix(k, "right/"):
						n--
					}
					return nil
				}); err != nil {
					t.Errorf("scan: %v", err)
				}
				if n != 0 {
					t.Errorf("a scan saw %d commits in halves", n)
				}
			}
		})
	}
	wg.Wait()
	closeIt(t, s)
	if got := keys(t, opened(t, open), ""); len(got) != writers*each*2+1 {
		t.Errorf("%d records after reopening, want %d", len(got), writers*each*2+1)
	}
}

// testLarge writes several times what fits into memory tables, twice, as a site does that gets a new version.
func testLarge(t *testing.T, open Open) {
	s := opened(t, open)
	chunk := func(round, i int) []byte {
		return bytes.Repeat([]byte{byte(i), byte(round), byte(i * round)}, record.MaxValue/3)
	}
	const chunks = 40
	for round := range 2 {
		for i := range chunks {
			commit(t, s, fleetsync.Record{Key: fmt.Sprintf("chunk/%03d", i), Value: chunk(round, i)}, put("progress", fmt.Sprint(i)))
		}
	}
	closeIt(t, s)
	s = opened(t, open)
	for i := range chunks {
		v, err := s.Get(fmt.Sprintf("chunk/%03d", i))
		if err != nil || !bytes.Equal(v, chunk(1, i)) {
			t.Fatalf("chunk %d: %d bytes, %v", i, len(v), err)
		}
	}
}

// testModel compares with a map over random commits and reopenings.
func testModel(t *testing.T, open Open) {
	s := opened(t, open)
	rapid.Check(t, func(r *rapid.T) {
		model := map[string]string{}
		clear := []fleetsync.Record{put("a", "")}
		for _, kv := range keys(t, s, "") {
			key, _, _ := strings.Cut(kv, "=")
			clear = append(clear, fleetsync.Record{Key: key})
		}
		commit(t, s, append(clear, fleetsync.Record{Key: "a"})...)
		for range rapid.IntRange(1, 8).Draw(r, "commits") {
			if err := s.Commit(drawCommit(r, model)...); err != nil {
				r.Fatal(err)
			}
		}
		if rapid.IntRange(0, 9).Draw(r, "reopen") == 0 {
			closeIt(t, s)
			s = opened(t, open)
		}
		want := []string{}
		for k, v := range model {
			want = append(want, k+"="+v)
		}
		got := keys(t, s, "")
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			r.Fatalf("got %q, want %q", got, want)
		}
	})
}

// drawCommit makes a random commit and does it to the model.
func drawCommit(r *rapid.T, model map[string]string) (records []fleetsync.Record) {
	for range rapid.IntRange(1, 6).Draw(r, "records") {
		key := rapid.StringMatching(`[ab/]{1,3}`).Draw(r, "key")
		if rapid.Bool().Draw(r, "delete") {
			records = append(records, fleetsync.Record{Key: key})
			delete(model, key)
			continue
		}
		value := rapid.StringN(0, 40, -1).Draw(r, "value")
		records = append(records, put(key, value))
		model[key] = value
	}
	return records
}
