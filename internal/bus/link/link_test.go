package link

import (
	"encoding/json"
	"testing"

	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
)

func FuzzCheckAck(f *testing.F) {
	f.Add([]byte(`{"stream":"EVENTS","seq":7}`))
	f.Add([]byte(`{"error":{"code":503,"description":"x"},"stream":"EVENTS","seq":7}`))
	f.Add([]byte(`+OK`))
	f.Fuzz(func(t *testing.T, answer []byte) {
		if checkAck(answer, stream.Events) != nil {
			return
		}
		var ack map[string]any
		if err := json.Unmarshal(answer, &ack); err != nil {
			t.Errorf("%q was taken for an acknowledgement", answer)
		}
	})
}
