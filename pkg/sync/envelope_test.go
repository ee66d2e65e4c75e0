package sync

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"reflect"
	"testing"
	"time"
)

func envelopeKey() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
}

func TestT18_EnvelopesOpenOnlyForTheirTypeAndKey(t *testing.T) {
	key := envelopeKey()
	sealed, err := Seal(TypeAck, Ack{Site: "shop-1", Epoch: "e1", Upto: 3}, key)
	if err != nil {
		t.Fatal(err)
	}
	var ack Ack
	if err := Open(TypeAck, sealed, key.Public().(ed25519.PublicKey), &ack); err != nil || ack.Upto != 3 {
		t.Errorf("genuine: %+v, %v", ack, err)
	}
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, ed25519.SeedSize))
	if err := Open(TypeAck, sealed, other.Public().(ed25519.PublicKey), &ack); !errors.Is(err, ErrForged) {
		t.Errorf("another key: %v", err)
	}
	if err := Open(TypeHello, sealed, key.Public().(ed25519.PublicKey), &Hello{}); err == nil {
		t.Error("an ack was taken for a hello")
	}
	relabelled := bytes.Replace(sealed, []byte(TypeAck), []byte(TypeHello), 1)
	if err := Open(TypeHello, relabelled, key.Public().(ed25519.PublicKey), &Hello{}); !errors.Is(err, ErrForged) {
		t.Errorf("an ack that says it is a hello: %v", err)
	}
	if err := Open(TypeAck, append(sealed, '{', '}'), key.Public().(ed25519.PublicKey), &ack); err == nil {
		t.Error("bytes after the message were taken")
	}
	if err := Open(TypeAck, make([]byte, MaxMessage+1), key.Public().(ed25519.PublicKey), &ack); err == nil {
		t.Error("a message larger than any was read")
	}
}

// FuzzFresh gives the site whatever a poke may carry: nothing but what the hub signed is believed.
func FuzzFresh(f *testing.F) {
	key := envelopeKey()
	now := time.Date(2026, 11, 21, 2, 0, 0, 0, time.UTC)
	sealed, err := Seal(TypeFresh, Fresh{Site: "shop-1", Time: now, Assignment: 7, Ack: &Ack{Site: "shop-1", Epoch: "e1", Upto: 1}}, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add([]byte(`{"type":"fresh/v1","payload":"e30=","signature":""}`))
	f.Fuzz(func(t *testing.T, statement []byte) {
		e := NewEdge(EdgeConfig{Site: "shop-1", HubKeys: []ed25519.PublicKey{key.Public().(ed25519.PublicKey)}, NewEpoch: "e1", Seed: "seed"})
		for _, in := range []Input{Restored{}, LinkChanged{Up: true}, Poked{statement}} {
			if _, err := e.Step(now, in); err != nil {
				t.Fatal(err)
			}
		}
		if quality := e.clock.quality(now); quality != TimeUntrusted {
			t.Errorf("%q made the time %s", statement, quality)
		}
		if floor := e.clock.Floor; !floor.IsZero() && !floor.Equal(now) {
			t.Errorf("%q raised the floor to %s", statement, floor)
		}
	})
}

func FuzzOpen(f *testing.F) {
	key := envelopeKey()
	want := Ack{Site: "shop-1", Epoch: "e1", Upto: 3}
	sealed, err := Seal(TypeAck, want, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add([]byte(`{"type":"ack/v1","payload":"e30=","signature":""}`))
	f.Fuzz(func(t *testing.T, message []byte) {
		var got Ack
		if err := Open(TypeAck, message, key.Public().(ed25519.PublicKey), &got); err == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("%q opened as %+v, which was never signed", message, got)
		}
	})
}
