package sync

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

var small = Allowance{Messages: 2, MessagesAtOnce: 10, Bytes: 100, BytesAtOnce: 1000}

func TestT28_AQuotaIsTakenAndComesBack(t *testing.T) {
	var q Quota
	now := time.Unix(1e9, 0)
	for n := range 10 {
		if over, _ := q.Take(now, 1, small); over {
			t.Fatalf("message %d is over", n+1)
		}
	}
	over, began := q.Take(now, 1, small)
	throttle := q.Throttled(now)
	if !over || !began || throttle == nil || throttle.Why != "more than 10 messages at once and 2 a second" {
		t.Fatalf("the eleventh: %t, %t, %+v", over, began, throttle)
	}
	if want := now.Add(5500 * time.Millisecond); !throttle.Until.Equal(want) || !throttle.Since.Equal(now) {
		t.Errorf("throttled %s to %s", throttle.Since, throttle.Until)
	}
	for _, at := range []time.Time{now.Add(-time.Hour), now, throttle.Until.Add(-1)} {
		if over, began := q.Take(at, 500, small); !over || began || !q.Throttled(at).Until.Equal(throttle.Until) {
			t.Errorf("at %s: %t, %t, %+v", at, over, began, q.Throttled(at))
		}
	}
	for n := range 10 {
		if over, _ := q.Take(throttle.Until, 1, small); over {
			t.Fatalf("afterwards message %d is over", n+1)
		}
	}
	q = Quota{}
	if over, began := q.Take(now, 1001, small); !over || !began || q.Throttled(now).Why != "more than 1000 bytes at once and 100 a second" {
		t.Errorf("bytes: %t, %+v", over, q.Throttled(now))
	}
}

// Q1 for the messages that were not over, whatever a site does and whatever clocks say.
func TestT28_NoSiteTakesMoreThanItMay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q Quota
		begun := time.Unix(1e9, 0)
		now, last := begun, begun
		messages, bytes := 0.0, 0.0
		for i, ms := range rapid.SliceOf(rapid.IntRange(-2000, 3000)).Draw(t, "pauses") {
			now = now.Add(time.Duration(ms) * time.Millisecond)
			if i == 0 {
				begun, last = now, now
			}
			if now.After(last) {
				last = now
			}
			size := rapid.IntRange(0, 400).Draw(t, "size")
			if over, _ := q.Take(now, size, small); !over {
				messages, bytes = messages+1, bytes+float64(size)
			}
			passed := last.Sub(begun).Seconds()
			if messages > small.MessagesAtOnce+passed*small.Messages+1 || bytes > small.BytesAtOnce+passed*small.Bytes+400 {
				t.Fatalf("%v messages and %v bytes within %vs", messages, bytes, passed)
			}
		}
	})
}
