package sync

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"reflect"
	"testing"
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
	if err := Open(TypeAck, append(sealed, '{', '}'), key.Public().(ed25519.PublicKey), &ack); err == nil {
		t.Error("bytes after the message were taken")
	}
	if err := Open(TypeAck, make([]byte, MaxMessage+1), key.Public().(ed25519.PublicKey), &ack); err == nil {
		t.Error("a message larger than any was read")
	}
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
