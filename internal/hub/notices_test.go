package hub

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

func offlineConditions(n int) (all []condition) {
	for i := range n {
		all = append(all, condition{key: fmt.Sprintf("offline/shop-%03d", i), kind: api.NoticeOffline, subject: fmt.Sprintf("shop-%03d", i), text: "silent", minutes: 60})
	}
	return all
}

// An outage that takes hundreds of sites away is one notice, and each thing is told once while it holds and again when it comes back.
func TestAnOutageIsOneNotice(t *testing.T) {
	spec := api.NotificationSpec{URL: "https://a/b", Format: api.FormatWebhook}
	fresh, keys := raised(nil, offlineConditions(312))
	notices := noticesFor(spec, fresh, noon)
	if len(notices) != 1 || !strings.HasPrefix(notices[0].Text, "312 times site-offline: shop-000, shop-001") || !strings.HasSuffix(notices[0].Text, " and 302 more") {
		t.Errorf("%+v", notices)
	}
	if again, _ := raised(keys, offlineConditions(312)); len(again) != 0 {
		t.Errorf("told again: %d", len(again))
	}
	_, without := raised(keys, offlineConditions(311))
	if back, _ := raised(without, offlineConditions(312)); len(back) != 1 || back[0].subject != "shop-311" {
		t.Errorf("what came back: %+v", back)
	}
	if few := noticesFor(spec, offlineConditions(maxApart), noon); len(few) != maxApart || few[3].Subject != "shop-003" {
		t.Errorf("%d notices of %d sites", len(few), maxApart)
	}
	if one, other := noticesFor(spec, fresh, noon), noticesFor(spec, fresh, noon.Add(time.Hour)); one[0].ID != other[0].ID {
		t.Error("the same notice has another ID when it is made again")
	}
}

// A fleet that is silent as a whole is told of once: what was told of it fits one record, and of more than fits nothing is told again and again.
func TestP07_WhatWasToldOfAWholeFleetFitsItsRecord(t *testing.T) {
	var all []condition
	for i := range 60_000 {
		site := fmt.Sprintf("shop-%056d", i)
		all = append(all, condition{key: "offline/" + site + "/60/1795778141", kind: api.NoticeOffline, subject: site, minutes: 60})
	}
	fresh, told := raised(nil, all)
	if len(fresh) != maxTold {
		t.Errorf("%d are told, want %d", len(fresh), maxTold)
	}
	raw, err := json.Marshal(toldRecord{told})
	if err != nil {
		t.Fatal(err)
	}
	var read toldRecord
	if err := decodeRecord(raw, &read); err != nil {
		t.Fatal(err)
	}
	if again, _ := raised(read.Told, all); len(again) != 0 {
		t.Errorf("%d are told again", len(again))
	}
	if more, _ := raised(read.Told, all[1000:]); len(more) != 1000 {
		t.Errorf("%d are told once there is room, want 1000", len(more))
	}
}

func TestAReceiverIsToldWhatItAskedFor(t *testing.T) {
	all := append(offlineConditions(2), condition{key: "a", kind: api.NoticeClone, subject: "shop-1", text: "two"}, condition{key: "b", kind: api.NoticeOffline, subject: "shop-9", minutes: 5})
	for _, c := range []struct {
		spec api.NotificationSpec
		want int
	}{
		{api.NotificationSpec{}, 3},
		{api.NotificationSpec{Kinds: []api.NoticeKind{api.NoticeClone}}, 1},
		{api.NotificationSpec{Kinds: []api.NoticeKind{api.NoticeOffline}, OfflineMinutes: 5}, 1},
		{api.NotificationSpec{Kinds: []api.NoticeKind{api.NoticeTrouble}}, 0},
	} {
		if got := noticesFor(c.spec, all, noon); len(got) != c.want {
			t.Errorf("%+v: %+v", c.spec, got)
		}
	}
}

func TestWhatARolloutTells(t *testing.T) {
	heads := []api.Rollout{
		{ID: "a", Phase: rollout.Paused, Bundle: bundle.Ref{Name: "shop", Version: "1.0.0"}, Cause: "TooManyFailures wave=canary"}, {ID: "b", Phase: rollout.Running}, {ID: "c", Phase: rollout.Completed},
		{ID: "d", Phase: rollout.Aborted, Cause: "Aborted: olga: wrong"},
	}
	var told []string
	for _, c := range rolloutConditions(heads, map[string]string{"b": "rest"}) {
		told = append(told, string(c.kind)+" "+c.subject)
	}
	if got := strings.Join(told, ", "); got != "rollout-paused a, approval-needed b, rollout-completed c, rollout-aborted d" {
		t.Error(got)
	}
	before := rolloutConditions(heads[:1], nil)[0].key
	heads[0].Attempt++
	if rolloutConditions(heads[:1], nil)[0].key == before {
		t.Error("a second pause is told as the first")
	}
}

func TestAQueueIsBoundedAndTriesRest(t *testing.T) {
	var o outgoing
	for i := range maxQueue + 7 {
		o.put(api.Notice{ID: fmt.Sprint(i)})
	}
	if o.put(api.Notice{ID: fmt.Sprint(maxQueue)}) || len(o.Queue) != maxQueue || o.Dropped != 7 || o.Queue[0].ID != "7" || len(o.batch()) != maxBatch {
		t.Errorf("%d wait, %d dropped, the first is %s", len(o.Queue), o.Dropped, o.Queue[0].ID)
	}
	now := noon
	for range 30 {
		o.failed(now, "it answers 503")
		pause := o.Next.Sub(now)
		if pause < firstPause/2 || pause > longestPause || o.due(now) || !o.due(o.Next) {
			t.Fatalf("try %d rests %s", o.Tries, pause)
		}
		now = o.Next
	}
	if o.Next.Sub(now) > longestPause || o.Tries != 30 {
		t.Errorf("%d tries", o.Tries)
	}
	o.sent(now, o.Queue[:2])
	if o.Dropped != 0 || o.Error != "" || o.Tries != 0 || o.Queue[0].ID != "9" || !o.due(now) {
		t.Errorf("%+v", o.Queue[:2])
	}
}

func TestSlackIsToldPlainText(t *testing.T) {
	o := outgoing{Queue: []api.Notice{{Kind: api.NoticeClone, Text: "site <!channel> & *bold*"}}, Dropped: 3}
	raw, err := noticeBody("acme", api.NotificationSpec{Format: api.FormatSlack}, &o)
	var body struct{ Text string }
	if err != nil || json.Unmarshal(raw, &body) != nil || !strings.Contains(body.Text, "`clone` site &lt;!channel&gt; &amp;") || !strings.Contains(body.Text, "3 older") {
		t.Errorf("%s, %v", raw, err)
	}
}

// Nothing is sent where it must not be: in the clear over a network, with a password in the address, or to addresses of the link itself.
func TestT29_WhoMayBeTold(t *testing.T) {
	for address, want := range map[string]bool{
		"https://hooks.example.com/x": true, "http://127.0.0.1:8080/x": true, "http://[::1]/x": true, "http://localhost/x": true, "http://hooks.example.com/x": false,
		"http://10.0.0.1/x": false, "https://user:secret@a/x": false, "ftp://a/x": false, "/x": false, "": false, "https://a/x#y": false, "http://127.0.0.1.example.com/": false,
	} {
		if err := checkNotification(api.NotificationSpec{URL: address, Format: api.FormatWebhook}); (err == nil) != want {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, spec := range []api.NotificationSpec{{Format: "mail"}, {Format: "slack", Kinds: []api.NoticeKind{"weather"}}, {Format: "slack", OfflineMinutes: -1}, {Format: "slack", OfflineMinutes: maxOffline + 1}} {
		spec.URL = "https://a/b"
		if checkNotification(spec) == nil {
			t.Errorf("%+v is taken", spec)
		}
	}
	for address, want := range map[string]bool{"169.254.169.254": true, "fe80::1": true, "0.0.0.0": true, "224.0.0.1": true, "::": true, "10.1.2.3": false, "127.0.0.1": false, "8.8.8.8": false} {
		if forbidden(net.ParseIP(address)) != want {
			t.Errorf("%s: want %t", address, want)
		}
	}
}
