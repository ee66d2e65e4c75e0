package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand"
	"runtime"
	"strings"
	"testing"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"
)

// pack compresses what no encoder of ours would write.
func pack(t testing.TB, plain []byte, options ...zstd.EOption) []byte {
	t.Helper()
	e, err := zstd.NewWriter(nil, options...)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	return e.EncodeAll(plain, nil)
}

func TestContentComesBackWhole(t *testing.T) {
	for _, n := range []int{0, 1, 100, 1 << 20} {
		content := []byte(strings.Repeat("abcdefgh\n", n/9+1)[:n])
		packed, err := Compress(content)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decompress(packed, int64(n))
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes: got %d, %v", n, len(got), err)
		}
		for _, wrong := range []int64{int64(n) - 1, int64(n) + 1, bundle.MaxContentSize + 1} {
			if _, err := Decompress(packed, wrong); err == nil {
				t.Errorf("%d bytes passed for %d", n, wrong)
			}
		}
	}
}

func TestKeepingCostsLittleMemory(t *testing.T) {
	content := make([]byte, 4<<20)
	rand.New(rand.NewSource(3)).Read(content[:1<<20])
	var kept []byte
	var err error
	if used := allocated(func() { kept, err = CompressForKeeping(content) }); used > 12<<20 {
		t.Errorf("%d MiB allocated", used>>20)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Decompress(kept, int64(len(content))); err != nil || !bytes.Equal(got, content) {
		t.Fatalf("wrong result: %v", err)
	}
}

func TestT11_DecompressingRefusesBombs(t *testing.T) {
	bomb := pack(t, make([]byte, 256<<20), zstd.WithEncoderLevel(zstd.SpeedFastest))
	var stream bytes.Buffer // a frame that does not say how long it is
	w, err := zstd.NewWriter(&stream)
	if err != nil {
		t.Fatal(err)
	}
	for range 256 {
		if _, err := w.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, packed := range map[string][]byte{"declared": bomb, "undeclared": stream.Bytes(), "garbage": []byte("garbage"), "empty": nil,
		"skippable": {0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0}} {
		for what, open := range map[string]func() error{
			"content": func() error { _, err := Decompress(packed, 1<<20); return err },
			"delta":   func() error { _, err := ApplyDelta(nil, packed, 1<<20); return err },
		} {
			if used := allocated(func() { err = open() }); used > 24<<20 {
				t.Errorf("%s %s: %d MiB allocated", name, what, used>>20)
			}
			if err == nil {
				t.Errorf("%s %s: no error", name, what)
			}
		}
	}
}

func allocated(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestW2_DeltaRefusesWhatIsNotOne(t *testing.T) {
	from := []byte("0123456789")
	part := func(parts ...[]byte) []byte {
		var b []byte
		for _, p := range parts {
			b = append(binary.AppendUvarint(b, uint64(len(p))), p...)
		}
		return b
	}
	u := func(n uint64) []byte { return binary.AppendUvarint(nil, n) }
	v := func(n int64) []byte { return binary.AppendVarint(nil, n) }
	for name, c := range map[string]struct {
		plain []byte
		want  string
	}{
		"whole":              {part(u(1), u(9), v(1), []byte("x")), ""},
		"too short":          {part(u(1), u(8), v(1), []byte("x")), "were declared"},
		"too long":           {part(u(1), u(10), v(0), []byte("x")), "more than the 10"},
		"before the content": {part(u(1), u(9), v(-1), []byte("x")), "outside"},
		"after the content":  {part(u(1), u(9), v(2), []byte("x")), "outside"},
		"far away":           {part(u(1), u(9), v(-1<<63), []byte("x")), "outside"},
		"huge copy":          {part(u(1), u(1<<63), v(0), []byte("x")), "outside"},
		"huge run":           {part(u(1<<63), u(9), v(0), []byte("x")), "too early"},
		"wrapping sum":       {part(u(1), u(1<<64-1), v(0), []byte("x")), ""},
		"nothing":            {part(u(0), u(0), v(0), nil), "makes nothing"},
		"literals left":      {part(u(1), u(9), v(1), []byte("xy")), "end together"},
		"copies left":        {part(u(1), append(u(9), u(9)...), v(1), []byte("x")), "end together"},
		"copies missing":     {part(append(u(1), u(1)...), u(9), append(v(1), v(1)...), []byte("xy")), "too early"},
		"part missing":       {part(u(1), u(9), v(1)), "too early"},
		"trailing":           {append(part(u(1), u(9), v(1), []byte("x")), 0), "after the end"},
		"open varint":        {part([]byte{0x80}, u(9), v(1), []byte("x")), "too early"},
	} {
		got, err := ApplyDelta(from, pack(t, c.plain), 10)
		if name == "whole" {
			if string(got) != "x123456789" || err != nil {
				t.Errorf("whole: %q, %v", got, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
	}
}

// edit makes a text that has much in common with another.
func edit(t *rapid.T, from []byte) []byte {
	to := bytes.Clone(from)
	for range rapid.IntRange(0, 12).Draw(t, "edits") {
		at := rapid.IntRange(0, len(to)).Draw(t, "at")
		cut := rapid.IntRange(0, min(40, len(to)-at)).Draw(t, "cut")
		to = append(append(bytes.Clone(to[:at]), rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "put")...), to[at+cut:]...)
	}
	return to
}

func TestDeltaComesBackWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from := []byte(strings.Join(rapid.SliceOfN(rapid.StringMatching(`[a-d]{1,9}\n`), 0, 200).Draw(t, "from"), ""))
		to := edit(t, from)
		if rapid.Bool().Draw(t, "unrelated") {
			to = rapid.SliceOf(rapid.Byte()).Draw(t, "to")
		}
		delta, err := Delta(from, to)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ApplyDelta(from, delta, int64(len(to)))
		if err != nil || !bytes.Equal(got, to) {
			t.Fatalf("%q -> %q: got %q, %v", from, to, got, err)
		}
	})
}

func TestDeltaOfASmallChangeIsSmall(t *testing.T) {
	random := rand.New(rand.NewSource(1))
	var content []byte
	for i := range 2000 {
		content = fmt.Appendf(content, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c%d"},"data":{"key":"%x"}}`+"\n", i, random.Uint64())
	}
	for _, from := range [][]byte{content, content[1000:], append(bytes.Clone(content[90000:]), content[:90000]...)} {
		to := bytes.Replace(content, []byte("c1234"), []byte("changed"), 1)
		delta, err := Delta(from, to)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ApplyDelta(from, delta, int64(len(to))); err != nil || !bytes.Equal(got, to) {
			t.Fatalf("wrong result: %v", err)
		}
		if len(delta) > 1000 {
			t.Errorf("%d bytes for one changed name", len(delta))
		}
	}
}

func TestOlderContentThatIsIndexedThinlyIsFound(t *testing.T) {
	from := make([]byte, 2*maxEntries+5)
	rand.New(rand.NewSource(2)).Read(from)
	to := append([]byte("new"), from[1000:]...)
	delta, err := Delta(from, to)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ApplyDelta(from, delta, int64(len(to))); err != nil || !bytes.Equal(got, to) {
		t.Fatalf("wrong result: %v", err)
	}
	if len(delta) > 200 {
		t.Errorf("delta of %d bytes", len(delta))
	}
}

func FuzzDecompress(f *testing.F) {
	packed, err := Compress([]byte("some content\n"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed, int64(13))
	f.Add(packed, int64(12))
	f.Fuzz(func(t *testing.T, packed []byte, size int64) {
		size = min(size, 1<<20)
		var content []byte
		var err error
		if used := allocated(func() { content, err = Decompress(packed, size) }); used > 24<<20 {
			t.Fatalf("%d MiB allocated for %d bytes", used>>20, size)
		}
		if err == nil && int64(len(content)) != size {
			t.Fatalf("%d bytes, want %d", len(content), size)
		}
	})
}

func FuzzApplyDelta(f *testing.F) {
	from := []byte("0123456789 the older content\n")
	f.Add([]byte{1, 1, 1, 9, 1, 2, 1, 'x'}, int64(10), true)
	delta, err := Delta(from, []byte("the older content, changed\n"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(delta, int64(27), false)
	f.Fuzz(func(t *testing.T, delta []byte, size int64, plain bool) {
		size = min(size, 1<<16)
		if plain { // reach behind the compression
			delta = pack(t, delta, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<16))
		}
		to, err := ApplyDelta(from, delta, size)
		if err == nil && int64(len(to)) != size {
			t.Fatalf("%d bytes, want %d", len(to), size)
		}
	})
}
