package memstore_test

import (
	"errors"
	"testing"

	"github.com/holdfast-fleet/holdfast/internal/store/memstore"
	"github.com/holdfast-fleet/holdfast/internal/store/record"
	"github.com/holdfast-fleet/holdfast/internal/store/storetest"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) storetest.Open {
		disk := memstore.NewDisk()
		return func(*testing.T) fleetsync.Store { return disk.Open() }
	})
}

func TestInjectedOutcomes(t *testing.T) {
	for _, c := range []struct {
		name    string
		outcome memstore.Outcome
		want    error
		kept    bool // after the failed commit
		next    bool // a further commit is taken without reopening
	}{
		{"done", memstore.Done, nil, true, true},
		{"not done", memstore.NotDone, memstore.ErrInjected, false, false},
		{"done but failed", memstore.DoneButFailed, memstore.ErrInjected, true, false},
		{"full", memstore.Full, fleetsync.ErrNoSpace, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := memstore.New()
			s.Disk().FailNth(1, c.outcome)
			if err := s.Commit(fleetsync.Record{Key: "k", Value: []byte("v")}); !errors.Is(err, c.want) {
				t.Fatalf("commit: got %v, want %v", err, c.want)
			}
			if err := s.Commit(fleetsync.Record{Key: "next", Value: []byte("v")}); (err == nil) != c.next {
				t.Errorf("next commit: %v", err)
			}
			again := s.Disk().Open()
			if _, err := again.Get("k"); (err == nil) != c.kept {
				t.Errorf("after reopening: %v, want kept %v", err, c.kept)
			}
			if err := again.Commit(fleetsync.Record{Key: "after", Value: []byte("v")}); err != nil {
				t.Errorf("commit after reopening: %v", err)
			}
			if _, err := s.Get("k"); err == nil {
				t.Error("the store from before the crash still answers")
			}
		})
	}
}

func TestLimitRefusesWritesButNotDeletes(t *testing.T) {
	s := memstore.New()
	s.Disk().Limit(record.Overhead + 10)
	if err := s.Commit(fleetsync.Record{Key: "a", Value: make([]byte, 9)}); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(fleetsync.Record{Key: "b", Value: []byte{}}); !errors.Is(err, fleetsync.ErrNoSpace) {
		t.Fatalf("got %v, want no space", err)
	}
	if err := s.Commit(fleetsync.Record{Key: "a"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(fleetsync.Record{Key: "b", Value: []byte{}}); err != nil {
		t.Fatalf("after the delete: %v", err)
	}
}
