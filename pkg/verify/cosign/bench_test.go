package cosign_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/cosign"
	"github.com/holdfast-fleet/holdfast/pkg/verify/cosign/sign"
)

// BenchmarkVerify compares the adapter with the bare mathematics: SHA-256 and ECDSA.
func BenchmarkVerify(b *testing.B) {
	public, _, err := verify.ParseKey(string(pair().public))
	if err != nil {
		b.Fatal(err)
	}
	for _, size := range []int{4 << 10, 1 << 20} {
		message := bytes.Repeat([]byte("0123456789abcdef"), size/16)
		signed, err := sign.Sign(message, pair().private, []byte("pw"))
		if err != nil {
			b.Fatal(err)
		}
		var form struct{ MessageSignature struct{ Signature string } }
		if err := json.Unmarshal(signed, &form); err != nil {
			b.Fatal(err)
		}
		der, err := base64.StdEncoding.DecodeString(form.MessageSignature.Signature)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("holdfast/%dKiB", size>>10), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				if err := (cosign.Verifier{}).Check(message, signed, string(pair().public)); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("ecdsa/%dKiB", size>>10), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				sum := sha256.Sum256(message)
				if !ecdsa.VerifyASN1(public.(*ecdsa.PublicKey), sum[:], der) {
					b.Fatal("refused")
				}
			}
		})
	}
}
