package wire

import (
	"errors"
	"fmt"
	"sync"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/klauspost/compress/zstd"
)

// encoder is shared: EncodeAll may be called by several goroutines.
var encoder = sync.OnceValues(func() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(8<<20), zstd.WithEncoderCRC(false)) // the digest says more than a checksum
})

// Compress compresses content.
func Compress(content []byte) ([]byte, error) {
	e, err := encoder()
	if err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	return e.EncodeAll(content, nil), nil
}

// CompressForKeeping compresses content that is to be kept where it is, not sent: a tenth larger than what Compress makes, in a tenth of
// the time, with a seventh of the memory, and nothing of that is held on to.
func CompressForKeeping(content []byte) ([]byte, error) {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	defer func() { _ = e.Close() }()
	return e.EncodeAll(content, nil), nil
}

// Decompress returns the content of exactly size bytes that packed holds. size comes from a verified manifest.
func Decompress(packed []byte, size int64) ([]byte, error) {
	if size < 0 || size > bundle.MaxContentSize {
		return nil, fmt.Errorf("decompress: %d bytes declared, more than the %d allowed", size, bundle.MaxContentSize)
	}
	if len(packed) > bundle.MaxPackedSize {
		return nil, fmt.Errorf("decompress: %d bytes compressed, more than the %d allowed", len(packed), bundle.MaxPackedSize)
	}
	content, err := decompress(packed, size, size)
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	if int64(len(content)) != size {
		return nil, fmt.Errorf("decompress: %d bytes, %d were declared", len(content), size)
	}
	return content, nil
}

// decompress returns at most limit bytes; room is how many it makes room for at first.
func decompress(packed []byte, room, limit int64) ([]byte, error) {
	var head zstd.Header
	if err := head.Decode(packed); err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	if head.Skippable || head.DictionaryID != 0 {
		return nil, errors.New("zstd: not a plain frame")
	}
	if head.HasFCS && head.FrameContentSize > uint64(limit) {
		return nil, fmt.Errorf("zstd: %d bytes, more than the %d expected", head.FrameContentSize, limit)
	}
	// A new decoder each time: at the edge a fetch is rare, and an idle decoder keeps its tables.
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(8<<20),
		zstd.WithDecoderMaxMemory(uint64(max(limit, 1<<20)))) // it bounds the window, too
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	defer d.Close()
	plain, err := d.DecodeAll(packed, make([]byte, 0, room))
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	return plain, nil
}
