// Package stream says what the bus consists of: the streams with their rules, and what a site may do. It is pure; internal/bus makes
// JetStream keep these rules and internal/bus/membus keeps them itself.
package stream

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// Errors of the bus that callers branch on, besides fleetsync.ErrNotFound and fleetsync.ErrNoLink.
var (
	// ErrExists says that a subject that is written once holds something already.
	ErrExists = errors.New("exists already")
	// ErrConflict says that a subject changed since it was read.
	ErrConflict = errors.New("changed by somebody else")
	// ErrDenied says that the site may not do this. It is permanent.
	ErrDenied = errors.New("not permitted")
	// ErrTooLarge says that a message is beyond the limit.
	ErrTooLarge = errors.New("too large")
)

// Limits of messages, in bytes. An offer with the largest manifest fits into MaxMessage.
const (
	MaxMessage = 2 << 20
	MaxReport  = 1 << 20 // from a site
)

// Names of the streams.
const (
	Desired = "DESIRED"
	Bundles = "BUNDLES"
	Blobs   = "BLOBS"
	State   = "STATE"
	Events  = "EVENTS"
	Acks    = "ACKS"
	Sites   = "SITES"
	Catalog = "CATALOG"
	Tokens  = "TOKENS"
	Audit   = "AUDIT"
	Trust   = "TRUST"

	Rollouts     = "ROLLOUTS"
	RolloutParts = "ROLLOUTPARTS"
	Groups       = "GROUPS"
	Plans        = "PLANS"
	Users        = "USERS"
	Memory       = "MEMORY"

	Notifications = "NOTIFICATIONS"
)

// Keep is what a stream does with a second message on a subject.
type Keep int

// The ways to keep messages.
const (
	Newest Keep = iota // replaces the first
	First              // is refused
	All                // is kept as well, for as long as StreamOptions say
	Ever               // is kept as well, for ever
)

// Rule is one stream.
type Rule struct {
	Name     string
	Subjects []string
	Keep     Keep
	// SiteReads are the subjects that sites may read, with {site} for their own name. Other wildcards are theirs to fill.
	SiteReads []string
	// SiteWrites is the subject a site may report on, with {site} for its own name, or empty.
	SiteWrites string
	Purpose    string
}

// DefaultEventAge is how long events are kept.
const DefaultEventAge = 90 * 24 * time.Hour

const siteToken = "{site}"

// Rules are all streams. Those without SiteReads and SiteWrites are the hub's own.
var Rules = []Rule{
	{Desired, []string{"hf.desired.*"}, Newest, []string{"hf.desired." + siteToken}, "", "signed assignments"},
	{Bundles, []string{"hf.bundle.*"}, First, []string{"hf.bundle.*"}, "", "signed manifests"},
	{Blobs, []string{"hf.blob.>", "hf.delta.>"}, First, []string{"hf.blob.*.*", "hf.delta.*.*.*"}, "", "content and deltas in chunks"},
	{State, []string{"hf.state.*"}, Newest, nil, "hf.state." + siteToken, "signed snapshots of sites"},
	{Events, []string{"hf.event.*"}, All, nil, "hf.event." + siteToken, "signed events of sites"},
	{Acks, []string{"hf.ack.*"}, Newest, []string{"hf.ack." + siteToken}, "", "signed acknowledgements of events"},
	{Sites, []string{"hf.site.*"}, Newest, nil, "", "the fleet's sites"},
	// Versions hold dots: hf.catalog.<name>.<version> has any number of tokens, and the name is the first.
	{Catalog, []string{"hf.catalog.>"}, First, nil, "", "which manifest is name@version"},
	{Tokens, []string{"hf.token.*", "hf.enrol.*"}, Newest, nil, "", "join tokens and who asked to join"},
	// The hub itself writes what has a version once; the timestamp is replaced.
	{Trust, []string{"hf.trust.*.*"}, Newest, []string{"hf.trust.*.*"}, "", "root of trust: TUF metadata"},
	{Audit, []string{"hf.audit"}, Ever, nil, "", "who did what"},
	// Heads are small, so that every hub follows them; what is large is beside them.
	{Rollouts, []string{"hf.rollout.*", "hf.leader"}, Newest, nil, "", "heads of rollouts, and who leads them"},
	{RolloutParts, []string{"hf.part.*.*.*"}, Newest, nil, "", "rollouts in packed chunks"},
	{Groups, []string{"hf.group.*"}, Newest, nil, "", "named label selectors"},
	{Plans, []string{"hf.plan.*"}, Newest, nil, "", "rollout plans by name"},
	{Notifications, []string{"hf.notification.*"}, Newest, nil, "", "whom the hub tells what happens"},
	{Users, []string{"hf.user.*", "hf.seen.*"}, Newest, nil, "", "who may use the API, and when they last did"},
	{Memory, []string{"hf.memory.*"}, Newest, nil, "", "what the hub itself has to remember over a start"},
}

// Message is one stored message.
type Message struct {
	Subject  string
	Sequence uint64 // within its stream
	Time     time.Time
	Data     []byte
}

// Named gives the rule of a stream.
func Named(name string) (Rule, error) {
	for _, r := range Rules {
		if r.Name == name {
			return r, nil
		}
	}
	return Rule{}, fmt.Errorf("stream %q: there is no such stream", name)
}

// Of gives the stream that holds a subject.
func Of(subject string) (Rule, error) {
	if !Literal(subject) {
		return Rule{}, fmt.Errorf("subject %.120q: not a literal subject", subject)
	}
	for _, r := range Rules {
		for _, s := range r.Subjects {
			if Matches(s, subject) {
				return r, nil
			}
		}
	}
	return Rule{}, fmt.Errorf("subject %.120q: no stream holds it", subject)
}

// Literal tells whether a subject is well formed and without wildcards.
func Literal(subject string) bool {
	if subject == "" || strings.ContainsAny(subject, "*> \t\r\n\x00") {
		return false
	}
	for token := range strings.SplitSeq(subject, ".") {
		if token == "" {
			return false
		}
	}
	return true
}

// Matches tells whether a pattern with NATS wildcards covers a literal subject.
func Matches(pattern, subject string) bool {
	for {
		want, restPattern, morePattern := strings.Cut(pattern, ".")
		got, restSubject, moreSubject := strings.Cut(subject, ".")
		switch {
		case want == ">":
			return got != ""
		case want != "*" && want != got:
			return false
		case !morePattern && !moreSubject:
			return true
		case !morePattern || !moreSubject:
			return false
		}
		pattern, subject = restPattern, restSubject
	}
}

// ReadsOf lists what a site may read, by stream: literal subjects and patterns.
func ReadsOf(site bundle.SiteID) map[string][]string {
	reads := map[string][]string{}
	for _, r := range Rules {
		for _, s := range r.SiteReads {
			reads[r.Name] = append(reads[r.Name], strings.ReplaceAll(s, siteToken, string(site)))
		}
	}
	return reads
}

// WritesOf lists the subjects a site may report on.
func WritesOf(site bundle.SiteID) (subjects []string) {
	for _, r := range Rules {
		if r.SiteWrites != "" {
			subjects = append(subjects, strings.ReplaceAll(r.SiteWrites, siteToken, string(site)))
		}
	}
	return subjects
}

// MayRead tells whether a site may read a subject.
func MayRead(site bundle.SiteID, subject string) bool {
	for _, patterns := range ReadsOf(site) {
		for _, p := range patterns {
			if Literal(subject) && Matches(p, subject) {
				return true
			}
		}
	}
	return false
}

// MayReport tells whether a site may report on a subject.
func MayReport(site bundle.SiteID, subject string) bool {
	for _, s := range WritesOf(site) {
		if s == subject {
			return true
		}
	}
	return false
}

// SiteOf gives the site a subject belongs to: the last token of a subject that names one.
func SiteOf(subject string) (bundle.SiteID, error) {
	site, err := bundle.ParseSiteID(subject[strings.LastIndexByte(subject, '.')+1:])
	if err != nil {
		return "", fmt.Errorf("subject %.120q: %w", subject, err)
	}
	return site, nil
}

// AnySite is a subject with every site's name in place of one.
func AnySite(subject func(bundle.SiteID) string) string { return subject("*") }

// HelloOf is the subject of a site's heartbeat, the only other thing it may publish.
func HelloOf(site bundle.SiteID) string { return fleetsync.HelloSubject(site) }
