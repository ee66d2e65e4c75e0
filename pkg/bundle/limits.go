package bundle

// The limits of the format. Every decoder checks the size of its input before it reads it.
const (
	MaxManifestSize  = 1 << 20  // bytes of an encoded manifest
	MaxContentSize   = 64 << 20 // bytes of content, uncompressed
	MaxPackedSize    = 65 << 20 // bytes of content, compressed: what cannot be made smaller grows a little
	MaxObjectSize    = 3 << 20  // bytes of one object in canonical JSON
	MaxObjects       = 10000    // objects of one bundle
	MaxDepth         = 128      // nesting of JSON arrays and objects
	MaxSignatures    = 8        // signatures in a file
	MaxSignatureSize = 64 << 10 // bytes of one signature
	ChunkSize        = 256 << 10
)

// The limits inside a manifest.
const (
	maxRequires    = 32
	maxParameters  = 64
	maxVariants    = 64
	maxPatches     = 64 // of one variant
	maxIgnoreRules = 256
	maxReplace     = 64
	maxProbes      = 16
	maxManagers    = 64  // field managers to ignore
	maxManagerName = 128 // bytes, as in Kubernetes
	// MaxParameterValue is the length of a string parameter's value in bytes.
	MaxParameterValue = 4096
	maxText           = 4096 // selectors, patterns, descriptions, pointers
	// MaxExpression is the length of a health expression in bytes.
	MaxExpression    = 4096
	maxHealthTimeout = 24 * 60 * 60
)

// Chunks cuts b into pieces of ChunkSize bytes, the last one shorter. The pieces share b's memory; no bytes make no pieces.
func Chunks(b []byte) [][]byte {
	chunks := make([][]byte, 0, (len(b)+ChunkSize-1)/ChunkSize)
	for len(b) > 0 {
		n := min(ChunkSize, len(b))
		chunks = append(chunks, b[:n:n])
		b = b[n:]
	}
	return chunks
}
