package hub

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// What is told to whom, when and how is decided here, without I/O: notifier.go asks, sends and stores.

// Bounds of notifications.
const (
	maxNotifications = 20
	maxQueue         = 500 // notices that wait for one receiver; older ones are dropped and counted
	maxBatch         = 20  // notices in one message
	maxApart         = 10  // of a kind at one time; more are told together
	maxNamed         = 10  // of those that are told together
	maxNoticeText    = 500 // bytes
	defaultOffline   = 60  // minutes
	maxOffline       = 60 * 24 * 365
	firstPause       = 5 * time.Second
	longestPause     = 10 * time.Minute
)

// condition is something that holds and that somebody may want to know, once.
type condition struct {
	key     string // what it is told once for
	kind    api.NoticeKind
	subject string
	text    string
	minutes int // of a site that is offline: for how long at least
}

// siteConditions are those of sites; offline are the times, in minutes, for which somebody wants to know.
func (v *View) siteConditions(now time.Time, offline []int) (all []condition) {
	for id, site := range v.sites {
		r := site.record
		if r.Held != nil {
			all = append(all, condition{key: "clone/" + string(id) + "/" + r.Held.At.UTC().Format(time.RFC3339), kind: api.NoticeClone, subject: string(id), text: fmt.Sprintf("site %s is held: %s", id, r.Held.Why)})
		}
		if r.status() != "" {
			continue // nobody waits for it
		}
		heard := site.ingest.Heard()
		if !heard.IsZero() && !site.connected(now, v.heartBeat) {
			for _, minutes := range offline {
				if now.Sub(heard) >= time.Duration(minutes)*time.Minute {
					all = append(all, condition{
						key: fmt.Sprintf("offline/%s/%d/%d", id, minutes, heard.Unix()), kind: api.NoticeOffline, subject: string(id), minutes: minutes,
						text: fmt.Sprintf("site %s was last heard at %s", id, heard.UTC().Format(time.RFC3339)),
					})
				}
			}
		}
		state, _ := site.ingest.Snapshot()
		if state == nil {
			continue
		}
		for _, b := range state.Bundles {
			if b.Phase == fleetsync.PhaseReverted || b.Phase == fleetsync.PhaseHalted || b.Phase == fleetsync.PhaseRefused {
				all = append(all, condition{
					key: fmt.Sprintf("quarantine/%s/%s/%.20s/%s", id, b.Name, b.Digest.Hex(), b.Phase), kind: api.NoticeQuarantine, subject: string(id),
					text: fmt.Sprintf("site %s: %s@%s is %s: %s", id, b.Name, b.Desired, b.Phase, cmp.Or(b.Reason, "no reason given")),
				})
			}
		}
	}
	return all
}

// rolloutConditions are those of rollouts; waiting are the waves that wait for approval, by rollout.
func rolloutConditions(heads []api.Rollout, waiting map[string]string) (all []condition) {
	kinds := map[rollout.Phase]api.NoticeKind{rollout.Paused: api.NoticeRolloutPaused, rollout.Aborted: api.NoticeRolloutAborted, rollout.Completed: api.NoticeRolloutCompleted}
	for _, r := range heads {
		if kind, told := kinds[r.Phase]; told {
			text := fmt.Sprintf("rollout %s of %s is %s", r.ID, r.Bundle, r.Phase)
			if r.Cause != "" {
				text += ": " + r.Cause
			}
			all = append(all, condition{key: fmt.Sprintf("rollout/%s/%s/%d/%s", r.ID, r.Phase, r.Attempt, shortHash(r.Cause)), kind: kind, subject: r.ID, text: text})
		}
		if wave := waiting[r.ID]; wave != "" {
			all = append(all, condition{
				key: fmt.Sprintf("approval/%s/%s/%d", r.ID, wave, r.Attempt), kind: api.NoticeApproval, subject: r.ID,
				text: fmt.Sprintf("rollout %s of %s: wave %s waits for approval", r.ID, r.Bundle, wave),
			})
		}
	}
	return all
}

// waitsFor is the wave that only an approval keeps from opening; empty: none.
func waitsFor(r *rollout.Rollout) string {
	if r.Phase != rollout.Running {
		return ""
	}
	for w := range r.Waves {
		wave := &r.Waves[w]
		if !wave.Opened.IsZero() {
			continue
		}
		if (w == 0 || !r.Waves[w-1].Passed.IsZero()) && len(wave.Approved) < r.Plan.Spec.Waves[w].Approvals {
			return wave.Name
		}
		return ""
	}
	return ""
}

// troubleConditions are those of the hub itself.
func troubleConditions(lines []string) (all []condition) {
	for _, line := range lines {
		all = append(all, condition{key: "trouble/" + shortHash(line), kind: api.NoticeTrouble, text: "hub: " + line})
	}
	return all
}

func shortHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}

// toldKeys are of the conditions that were told and still hold: of each the first bytes of its key's hash, so that those of a whole fleet fit one record.
type toldKeys []byte

const (
	toldSize = 8      // bytes of one
	maxTold  = 50_000 // conditions that are known at one time; more are told when some of these end
)

// raised are the conditions that were not told yet, and all that are told then. What holds no more is told again when it comes back.
func raised(before toldKeys, all []condition) (fresh []condition, now toldKeys) {
	known := map[string]bool{}
	for hash := range slices.Chunk(before, toldSize) {
		known[string(hash)] = true
	}
	all = slices.SortedFunc(slices.Values(all), func(a, b condition) int { return strings.Compare(a.key, b.key) })
	all = slices.CompactFunc(all, func(a, b condition) bool { return a.key == b.key })
	for _, c := range all[:min(len(all), maxTold)] {
		hash := sha256.Sum256([]byte(c.key))
		if !known[string(hash[:toldSize])] {
			fresh = append(fresh, c)
		}
		now = append(now, hash[:toldSize]...)
	}
	return fresh, now
}

// noticesFor are what a receiver is told of conditions: those it asked for, and many of a kind as one.
func noticesFor(spec api.NotificationSpec, fresh []condition, now time.Time) (notices []api.Notice) {
	byKind := map[api.NoticeKind][]condition{}
	for _, c := range fresh {
		if wants(spec, c) {
			byKind[c.kind] = append(byKind[c.kind], c)
		}
	}
	for _, kind := range api.NoticeKinds {
		of := byKind[kind]
		if len(of) > maxApart {
			notices = append(notices, together(kind, of, now))
			continue
		}
		for _, c := range of {
			text := strings.ToValidUTF8(c.text[:min(len(c.text), maxNoticeText)], "?")
			notices = append(notices, api.Notice{ID: shortHash(c.key), Kind: kind, At: now, Subject: c.subject, Text: text})
		}
	}
	return notices
}

func wants(spec api.NotificationSpec, c condition) bool {
	return (len(spec.Kinds) == 0 || slices.Contains(spec.Kinds, c.kind)) && (c.kind != api.NoticeOffline || c.minutes == cmp.Or(spec.OfflineMinutes, defaultOffline))
}

func together(kind api.NoticeKind, of []condition, now time.Time) api.Notice {
	var keys, names []string
	for _, c := range of {
		keys, names = append(keys, c.key), append(names, c.subject)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	text := fmt.Sprintf("%d times %s: %s", len(of), kind, strings.Join(names[:min(len(names), maxNamed)], ", "))
	if more := len(names) - maxNamed; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return api.Notice{ID: shortHash(strings.Join(keys, "\n")), Kind: kind, At: now, Text: text}
}

// outgoing is what waits for one receiver, and how sending goes.
type outgoing struct {
	Queue   []api.Notice `json:"queue,omitempty"`
	Dropped int          `json:"dropped,omitempty"`
	Tries   int          `json:"tries,omitempty"` // that failed in a row
	Next    time.Time    `json:"next,omitzero"`   // not before
	Sent    time.Time    `json:"sent,omitzero"`
	Error   string       `json:"error,omitempty"`
}

// put adds what does not wait already. A full queue drops its oldest.
func (o *outgoing) put(notices ...api.Notice) (changed bool) {
	for _, n := range notices {
		if !slices.ContainsFunc(o.Queue, func(has api.Notice) bool { return has.ID == n.ID }) {
			o.Queue, changed = append(o.Queue, n), true
		}
	}
	if more := len(o.Queue) - maxQueue; more > 0 {
		o.Queue, o.Dropped = slices.Clone(o.Queue[more:]), o.Dropped+more
	}
	return changed
}

func (o *outgoing) due(now time.Time) bool { return len(o.Queue) > 0 && !now.Before(o.Next) }

// batch is what the next message holds.
func (o *outgoing) batch() []api.Notice { return o.Queue[:min(len(o.Queue), maxBatch)] }

// sent takes out a batch that was taken. Somebody may have added to the queue since it was sent, and a full queue may have dropped of it.
func (o *outgoing) sent(now time.Time, batch []api.Notice) {
	taken := map[string]bool{}
	for _, n := range batch {
		taken[n.ID] = true
	}
	left := slices.DeleteFunc(slices.Clone(o.Queue), func(n api.Notice) bool { return taken[n.ID] })
	*o = outgoing{Queue: left, Sent: now.UTC().Truncate(time.Second)}
}

// failed puts the next try off: twice as long each time, and never at the same moment as everybody else's.
func (o *outgoing) failed(now time.Time, why string) {
	o.Tries++
	pause := min(firstPause<<min(o.Tries-1, 10), longestPause)
	o.Error, o.Next = why, now.Add(pause/2+rand.N(pause/2)).UTC()
}

// noticeBody is the body of one request.
func noticeBody(fleet string, spec api.NotificationSpec, o *outgoing) ([]byte, error) {
	batch := o.batch()
	if spec.Format != api.FormatSlack {
		return json.Marshal(api.Notices{Fleet: fleet, Notices: batch, Dropped: o.Dropped})
	}
	plain := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
	lines := []string{"*Holdfast, fleet " + plain.Replace(fleet) + "*"}
	for _, n := range batch {
		lines = append(lines, fmt.Sprintf("• `%s` %s", n.Kind, plain.Replace(n.Text)))
	}
	if o.Dropped > 0 {
		lines = append(lines, fmt.Sprintf("_and %d older ones that there was no room for_", o.Dropped))
	}
	return json.Marshal(map[string]string{"text": strings.Join(lines, "\n")})
}

// webhookSignature is that of https://www.standardwebhooks.com: of id, time and body, so that nothing of it can be replayed later under another one.
func webhookSignature(key []byte, id string, at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%d.", id, at.Unix())
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// messageID is the same for the same notices, however often they are sent.
func messageID(batch []api.Notice) string {
	ids := make([]string, len(batch))
	for i, n := range batch {
		ids[i] = n.ID
	}
	return "msg_" + shortHash(strings.Join(ids, " "))
}

// checkNotification refuses a receiver that must not be told: anything but HTTPS, except on this machine.
func checkNotification(spec api.NotificationSpec) error {
	bad := func(what string) error {
		return refuse(http.StatusUnprocessableEntity, "BadNotification", "the notification is refused", what, "")
	}
	u, err := url.Parse(spec.URL)
	switch {
	case err != nil || len(spec.URL) > 2000 || u.Host == "" || u.User != nil || u.Fragment != "":
		return bad("url: want https://host/path, without a password in it")
	case u.Scheme != "https" && (u.Scheme != "http" || !onThisMachine(u.Hostname())):
		return bad("url: want https; http is for this machine alone")
	case spec.Format != api.FormatWebhook && spec.Format != api.FormatSlack:
		return bad("format: want webhook or slack")
	case spec.OfflineMinutes < 0 || spec.OfflineMinutes > maxOffline:
		return bad(fmt.Sprintf("offlineMinutes: want 1 to %d", maxOffline))
	}
	for _, kind := range spec.Kinds {
		if !slices.Contains(api.NoticeKinds, kind) {
			return bad(fmt.Sprintf("kinds: there is no %.40q", kind))
		}
	}
	return nil
}

func onThisMachine(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// forbidden says of an address that it is nobody's to be told: of the link itself, where clouds give out credentials, or of nobody.
func forbidden(ip net.IP) bool {
	return ip == nil || ip.IsUnspecified() || ip.IsMulticast() || ip.IsLinkLocalUnicast() || ip.IsInterfaceLocalMulticast()
}
