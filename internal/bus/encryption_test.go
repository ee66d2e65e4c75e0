package bus

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// TestP07_AStoreIsOpenedWithItsOwnKeyAlone: the server by itself would leave out streams that it cannot decrypt, and encrypt those in the clear where they lie.
func TestP07_AStoreIsOpenedWithItsOwnKeyAlone(t *testing.T) {
	for made, others := range map[string][]string{"": {"a key"}, "a key": {"", "another key"}} {
		b := newBench(t)
		o := b.options("127.0.0.1:0")
		o.Key = made
		s, err := StartServer(o)
		must(t, err)
		b.server, b.url = s, s.URL()
		h := b.hub(t)
		_, err = h.Put(t.Context(), fleetsync.StateSubject("shop-1"), []byte("what it is"))
		must(t, err)
		h.Close()
		s.Close()
		for _, other := range others {
			o.Key = other
			if s, err := StartServer(o); !errors.Is(err, ErrWrongKey) {
				if err == nil {
					s.Close()
				}
				t.Errorf("made with %q, opened with %q: %v", made, other, err)
			}
		}
		o.Key = made
		s, err = StartServer(o)
		must(t, err)
		b.server = s
		if m, err := b.hub(t).Get(t.Context(), fleetsync.StateSubject("shop-1")); err != nil || string(m.Data) != "what it is" {
			t.Errorf("made with %q: %q, %v", made, m.Data, err)
		}
		s.Close()
	}
}

// BenchmarkEncryption has an encrypted store and one in the clear take the same writes in turn, and tells the medians of their ratios.
func BenchmarkEncryption(b *testing.B) {
	var hubs []*Hub
	for _, key := range []string{"", "a key of some length, as it is derived"} {
		bench := newBench(b)
		o := bench.options("127.0.0.1:0")
		o.Key = key
		s, err := StartServer(o)
		must(b, err)
		b.Cleanup(s.Close)
		bench.server = s
		hubs = append(hubs, bench.hub(b))
	}
	payload := bytes.Repeat([]byte("0123456789abcdef"), 256<<10/16)
	for _, c := range []struct {
		what    string
		size    int
		subject func(round, n int) string
	}{
		{"events of 1 KiB", 1 << 10, func(int, int) string { return fleetsync.EventSubject("shop-1") }},
		{"states of 4 KiB, of 500 sites in turn", 4 << 10, func(_, n int) string { return fleetsync.StateSubject(bundle.SiteID(fmt.Sprintf("s%d", n%500))) }},
		{"chunks of 256 KiB", 256 << 10, func(round, n int) string {
			return fleetsync.BlobSubject(bundle.DigestOf([]byte(b.Name())), round*1000+n)
		}},
	} {
		b.Run(c.what, func(b *testing.B) {
			var ratios, took []float64
			for round := 0; b.Loop(); round++ {
				var each [2]float64
				for _, i := range []int{round % 2, 1 - round%2} {
					begun := time.Now()
					for n := range 25 {
						_, err := hubs[i].Put(b.Context(), c.subject(round, n+25*round), payload[:c.size])
						must(b, err)
					}
					each[i] = time.Since(begun).Seconds() / 25
				}
				ratios, took = append(ratios, each[1]/each[0]), append(took, each[0]*1e6)
			}
			slices.Sort(ratios)
			slices.Sort(took)
			b.ReportMetric(ratios[len(ratios)/2], "encrypted/clear")
			b.ReportMetric(took[len(took)/2], "µs-in-the-clear")
		})
	}
}
