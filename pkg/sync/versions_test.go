package sync

import (
	"crypto/ed25519"
	"encoding/json"
	"strings"
	"testing"
)

// earlier are messages with no more fields than the first versions had. They are written by hand, not recorded.
var earlier = map[string]struct {
	payload string
	into    func() any
}{
	TypeAssignment: {`{"site":"shop-1","sequence":3,"issued":"2026-11-20T12:00:00Z","labels":{"region":"north"},"bundles":[{"name":"shop","version":"1.0.0","digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000"}]}`, func() any { return new(Assignment) }},
	TypeState:      {`{"site":"shop-1","epoch":"e","sequence":2,"at":"2026-11-20T12:00:00Z","started":"2026-11-20T11:00:00Z","agent":"0.1.0","assignment":3,"cluster":{"reachable":true},"bundles":[]}`, func() any { return new(State) }},
	TypeEvents:     {`{"site":"shop-1","epoch":"e","from":1,"events":[{"seq":1,"kind":"LinkUp","at":"2026-11-20T12:00:00Z"}]}`, func() any { return new(EventBatch) }},
	TypeAck:        {`{"site":"shop-1","epoch":"e","upto":7}`, func() any { return new(Ack) }},
	TypeHello:      {`{"site":"shop-1","epoch":"e","at":"2026-11-20T12:00:00Z","state":2}`, func() any { return new(Hello) }},
	TypeFresh:      {`{"site":"shop-1","time":"2026-11-20T12:00:00Z","assignment":3}`, func() any { return new(Fresh) }},
}

// sealRaw signs a payload as it is.
func sealRaw(t *testing.T, kind, payload string, key ed25519.PrivateKey) []byte {
	t.Helper()
	sealed, err := json.Marshal(Envelope{kind, []byte(payload), ed25519.Sign(key, signedBytes(kind, []byte(payload)))})
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// Hub and agent are upgraded at different times: what one reports or answers in a field that the other does not know
// yet is passed over, and the rest counts. An order with such a field is refused: what it asks for would not be done.
func TestF26_MessagesOfOtherVersionsAreUnderstood(t *testing.T) {
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for kind, m := range earlier {
		for version, payload := range map[string]string{
			"an older one":           m.payload,
			"one with a field more":  strings.TrimSuffix(m.payload, "}") + `,"whatComesLater":{"deep":[1,{"site":"other"}]}}`,
			"one with two more":      `{"first":null,` + strings.TrimPrefix(strings.TrimSuffix(m.payload, "}"), "{") + `,"last":"x"}`,
			"one with nothing to it": `{"site":"shop-1"}`,
		} {
			if err := Open(kind, sealRaw(t, kind, payload, key), public, m.into()); (err != nil) != (kind == TypeAssignment && strings.Contains(version, "more")) {
				t.Errorf("%s, %s: %v", kind, version, err)
			}
		}
		if err := Open(kind, sealRaw(t, kind, m.payload+"{}", key), public, m.into()); err == nil {
			t.Errorf("%s: bytes after the message are passed over", kind)
		}
		// What changes its meaning has a type of its own.
		next := strings.TrimSuffix(kind, "1") + "2"
		if err := Open(kind, sealRaw(t, next, m.payload, key), public, m.into()); err == nil || !strings.Contains(err.Error(), next) {
			t.Errorf("%s: a message of type %s: %v", kind, next, err)
		}
	}
}
