package tuf

import (
	"bytes"
	"testing"
)

func FuzzDecodePublication(f *testing.F) {
	f.Add([]byte(`{"schema":"` + publicationSchema + `","roots":["e30="],"targets":"e30=","fleet":"e30="}`))
	f.Add([]byte(`{"schema":"` + publicationSchema + `","roots":[],"roots":[null]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := DecodePublication(raw)
		if err != nil {
			return
		}
		again, err := EncodePublication(p)
		if err != nil {
			t.Fatalf("decoded and not encoded: %v", err)
		}
		q, err := DecodePublication(again)
		if err != nil || len(q.Roots) != len(p.Roots) || !bytes.Equal(q.Fleet, p.Fleet) {
			t.Fatalf("decoded again as another one: %v", err)
		}
	})
}
