package sync

import (
	"testing"
	"time"
)

// A site on a metered line tells the very same, in a few messages: nothing waits longer than a minute, and a full batch does not wait.
func TestAMeteredSiteGathersWhatItReports(t *testing.T) {
	run := func(metered bool) (messages int, told uint64, longest time.Duration) {
		e := NewEdge(EdgeConfig{Site: "shop-1", NewEpoch: "e1", Metered: metered, HeartBeat: time.Hour})
		now := time.Unix(1_800_000_000, 0)
		first := time.Time{} // of what is not told yet
		step := func(in Input) {
			for queue := []Input{in}; len(queue) > 0; queue = queue[1:] {
				out, err := e.Step(now, queue[0])
				if err != nil {
					t.Fatal(err)
				}
				if out.Look {
					queue = append(queue, Looked{})
				}
				for _, s := range out.Send {
					if s.Type == TypeEvents {
						if !first.IsZero() {
							longest = max(longest, now.Sub(first))
						}
						told, first = s.To, time.Time{}
					}
					if s.Type != TypeHello {
						messages++
						queue = append(queue, Sent{Type: s.Type, Upto: s.To})
					}
				}
			}
		}
		step(Restored{})
		step(LinkChanged{Up: true})
		for n := range 120 {
			if first.IsZero() {
				first = now
			}
			now = now.Add(time.Second)
			step(ClusterSeen{Reachable: n%2 == 0})
		}
		for range 70 {
			now = now.Add(time.Second)
			step(Tick{})
		}
		return messages, told, longest
	}
	plain, told, _ := run(false)
	metered, toldToo, longest := run(true)
	if told != toldToo || told < 120 {
		t.Errorf("%d events are told, and %d on a metered line", told, toldToo)
	}
	if metered > 10 || plain < 100 {
		t.Errorf("%d messages, and %d on a metered line", plain, metered)
	}
	if longest > gatherFor+2*time.Second {
		t.Errorf("something waited for %s", longest)
	}
}
