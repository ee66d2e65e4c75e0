package bus

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/holdfast-fleet/holdfast/internal/bus/line"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
)

// A backup is a folder: for each stream the server's own snapshot, which keeps sequences and times, sealed, and, written last, an index with their digests. A folder
// without a whole index is no backup. The server decrypts what it takes a snapshot of: without a Sealing a backup is in the clear, whatever the store is.
const (
	backupIndex    = "backup.json"
	backupClear    = "holdfast.dev/backup/v1" // made before backups were sealed, and of a bus that has no key
	backupSealed   = "holdfast.dev/backup/v2"
	maxBackupIndex = 4 << 20
	backupChunk    = 128 << 10
	// backupPatience is how long the server may take over one chunk.
	backupPatience = time.Minute
)

// Backup says what a backup holds.
type Backup struct {
	Schema string    `json:"schema"`
	Time   time.Time `json:"time"`
	// SealedTo names the key that opens the snapshots, and Key is that key, itself sealed. Both are empty where they are in the clear.
	SealedTo string          `json:"sealed_to,omitempty"`
	Key      json.RawMessage `json:"key,omitempty"`
	Streams  []BackupStream  `json:"streams"`
}

// Sealing seals what a backup holds and opens it.
type Sealing interface {
	Name() string
	// Seal writes to w what only Open reads; it is whole after Close.
	Seal(w io.Writer) (io.WriteCloser, error)
	Open(r io.Reader) (io.Reader, error)
}

// BackupStream is one stream of a backup. Size and digest are of the file.
type BackupStream struct {
	Name     string          `json:"name"`
	Messages uint64          `json:"messages"`
	Size     int64           `json:"size"`
	SHA256   string          `json:"sha256"`
	Config   json.RawMessage `json:"config"`
	State    json.RawMessage `json:"state"`
}

// Backup writes all streams into a folder, which it makes and which must not exist. They are sealed if sealing is not nil; key is the sealing's own key, sealed, and goes along. Streams are taken one after another while the hub goes on, and what
// proves that something else is there before that: acknowledgements before events, the catalog before bundles.
func (h *Hub) Backup(ctx context.Context, dir string, now time.Time, sealing Sealing, key json.RawMessage) (b Backup, err error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return b, fmt.Errorf("backup: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return b, fmt.Errorf("backup: %w", err)
	}
	b = Backup{Schema: backupClear, Time: now.UTC().Truncate(time.Second)}
	if sealing != nil {
		b.Schema, b.SealedTo, b.Key = backupSealed, sealing.Name(), key
	}
	for i := len(stream.Rules) - 1; i >= 0; i-- { // stream.Rules name what is spoken of before what speaks of it
		taken, err := h.backupStream(ctx, stream.Rules[i].Name, dir, sealing)
		if err != nil {
			return b, fmt.Errorf("backup: stream %s: %w", stream.Rules[i].Name, err)
		}
		b.Streams = append(b.Streams, taken)
	}
	raw, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return b, fmt.Errorf("backup: encode: %w", err)
	}
	if err := writeSynced(filepath.Join(dir, backupIndex), func(w io.Writer) error { _, err := w.Write(raw); return err }); err != nil {
		return b, fmt.Errorf("backup: %w", err)
	}
	return b, nil
}

func writeSynced(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	buffered := bufio.NewWriterSize(f, 1<<20)
	err = write(buffered)
	err = errors.Join(err, buffered.Flush(), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// apiError is how the server's API says no.
type apiError struct {
	Error *struct {
		Code        int    `json:"code"`
		Description string `json:"description"`
	} `json:"error"`
}

// ask makes a request of the server's API.
func (h *Hub) ask(ctx context.Context, subject string, request, answer any) error {
	raw, err := json.Marshal(request)
	if err != nil {
		return err
	}
	ctx, cancel := line.Bounded(ctx, hubTimeout)
	defer cancel()
	m, err := h.nc.RequestWithContext(ctx, subject, raw)
	if err != nil {
		return line.Meaning(err)
	}
	var refused apiError
	if err := json.Unmarshal(m.Data, &refused); err != nil {
		return fmt.Errorf("the server's answer: %w", err)
	}
	if refused.Error != nil {
		return fmt.Errorf("the server refuses: %s (%d)", refused.Error.Description, refused.Error.Code)
	}
	return json.Unmarshal(m.Data, answer)
}

func (h *Hub) backupStream(ctx context.Context, name, dir string, sealing Sealing) (taken BackupStream, err error) {
	inbox := h.nc.NewInbox()
	chunks, err := h.nc.SubscribeSync(inbox)
	if err != nil {
		return taken, line.Meaning(err)
	}
	defer func() { _ = chunks.Unsubscribe() }()
	_ = chunks.SetPendingLimits(-1, -1)
	request := struct {
		Deliver     string `json:"deliver_subject"`
		NoConsumers bool   `json:"no_consumers"`
		ChunkSize   int    `json:"chunk_size"`
		Check       bool   `json:"jsck"`
	}{inbox, true, backupChunk, true}
	var answer struct {
		Config json.RawMessage `json:"config"`
		State  json.RawMessage `json:"state"`
	}
	if err := h.ask(ctx, "$JS.API.STREAM.SNAPSHOT."+name, request, &answer); err != nil {
		return taken, err
	}
	taken = BackupStream{Name: name, Config: answer.Config, State: answer.State}
	var state struct {
		Messages uint64 `json:"messages"`
	}
	if err := json.Unmarshal(answer.State, &state); err != nil {
		return taken, err
	}
	taken.Messages = state.Messages
	file := &measured{digest: sha256.New()}
	err = writeSynced(filepath.Join(dir, name+".snapshot"), func(w io.Writer) error {
		out := io.MultiWriter(w, file)
		if sealing == nil {
			return receiveChunks(ctx, chunks, out)
		}
		sealed, err := sealing.Seal(out)
		if err != nil {
			return err
		}
		return errors.Join(receiveChunks(ctx, chunks, sealed), sealed.Close())
	})
	taken.Size, taken.SHA256 = file.size, hex.EncodeToString(file.digest.Sum(nil))
	return taken, err
}

// measured is how much was written, and its digest.
type measured struct {
	digest hash.Hash
	size   int64
}

func (m *measured) Write(b []byte) (int, error) {
	m.size += int64(len(b))
	return m.digest.Write(b)
}

// receiveChunks takes what the server sends until its empty end.
func receiveChunks(ctx context.Context, chunks *nats.Subscription, w io.Writer) error {
	for {
		waiting, cancel := context.WithTimeout(ctx, backupPatience)
		m, err := chunks.NextMsgWithContext(waiting)
		cancel()
		if err != nil {
			return line.Meaning(err)
		}
		if len(m.Data) == 0 {
			if status := m.Header.Get("Status"); status != "" && status != "204" {
				return fmt.Errorf("the server ended it: %s %s", status, m.Header.Get("Description"))
			}
			return nil
		}
		if _, err := w.Write(m.Data); err != nil {
			return err
		}
		if m.Reply != "" {
			if err := m.Respond(nil); err != nil {
				return line.Meaning(err)
			}
		}
	}
}

// ReadBackup reads the index of a backup and checks every file against it.
func ReadBackup(dir string) (b Backup, err error) {
	info, err := os.Stat(filepath.Join(dir, backupIndex))
	if err != nil {
		return b, fmt.Errorf("backup %s: it has no index, so it is none or was not finished: %w", dir, err)
	}
	if info.Size() > maxBackupIndex {
		return b, fmt.Errorf("backup %s: its index has %d bytes, at most %d are read", dir, info.Size(), maxBackupIndex)
	}
	raw, err := os.ReadFile(filepath.Join(dir, backupIndex))
	if err != nil {
		return b, fmt.Errorf("backup: %w", err)
	}
	if b, err = decodeBackup(raw); err != nil {
		return b, fmt.Errorf("backup %s: %w", dir, err)
	}
	for _, taken := range b.Streams {
		if err := taken.check(dir); err != nil {
			return b, fmt.Errorf("backup %s: stream %s: %w", dir, taken.Name, err)
		}
	}
	return b, nil
}

func decodeBackup(raw []byte) (b Backup, err error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&b); err != nil {
		return b, fmt.Errorf("its index: %w", err)
	}
	if b.Schema != backupClear && b.Schema != backupSealed {
		return b, fmt.Errorf("its index: schema %.80q, want %s", b.Schema, backupSealed)
	}
	if (b.Schema == backupSealed) != (b.SealedTo != "") {
		return b, errors.New("its index: it does not say what it is sealed to")
	}
	seen := map[string]bool{}
	for _, taken := range b.Streams {
		if _, err := stream.Named(taken.Name); err != nil {
			return b, err
		}
		if seen[taken.Name] {
			return b, fmt.Errorf("stream %s stands in it twice", taken.Name)
		}
		seen[taken.Name] = true
	}
	return b, nil
}

func (s BackupStream) check(dir string) error {
	f, err := os.Open(filepath.Join(dir, s.Name+".snapshot"))
	if err != nil {
		return err
	}
	defer f.Close()
	digest := sha256.New()
	size, err := io.Copy(digest, f)
	if err != nil {
		return err
	}
	if size != s.Size || hex.EncodeToString(digest.Sum(nil)) != s.SHA256 {
		return fmt.Errorf("its snapshot is not what was written: %d bytes, want %d", size, s.Size)
	}
	return nil
}

// Restore puts the streams of a checked backup in the place of what is there. It may be repeated after it was cut off: a stream is replaced whole. sealing opens a
// sealed one.
func (h *Hub) Restore(ctx context.Context, dir string, b Backup, sealing Sealing) error {
	switch {
	case b.SealedTo == "":
		sealing = nil
	case sealing == nil:
		return fmt.Errorf("restore: the backup is sealed to %s, and there is no key", b.SealedTo)
	}
	for _, taken := range b.Streams {
		if err := h.restoreStream(ctx, dir, taken, sealing); err != nil {
			return fmt.Errorf("restore: stream %s: %w", taken.Name, err)
		}
	}
	return nil
}

func (h *Hub) restoreStream(ctx context.Context, dir string, taken BackupStream, sealing Sealing) error {
	f, err := os.Open(filepath.Join(dir, taken.Name+".snapshot"))
	if err != nil {
		return err
	}
	defer f.Close()
	digest := sha256.New()
	file := io.TeeReader(f, digest)
	snapshot := file
	if sealing != nil {
		if snapshot, err = sealing.Open(file); err != nil {
			return err
		}
	}
	if err := h.js.DeleteStream(ctx, taken.Name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return line.Meaning(err)
	}
	request := struct {
		Config json.RawMessage `json:"config"`
		State  json.RawMessage `json:"state"`
	}{taken.Config, taken.State}
	var answer struct {
		Deliver string `json:"deliver_subject"`
	}
	if err := h.ask(ctx, "$JS.API.STREAM.RESTORE."+taken.Name, request, &answer); err != nil {
		return err
	}
	if err := h.sendChunks(ctx, answer.Deliver, snapshot); err != nil {
		return err
	}
	if hex.EncodeToString(digest.Sum(nil)) != taken.SHA256 {
		return errors.New("its snapshot changed while it was restored: restore again")
	}
	messages, _, err := h.Count(ctx, taken.Name)
	if err == nil && messages != taken.Messages {
		err = fmt.Errorf("%d messages came back of %d", messages, taken.Messages)
	}
	return err
}

// sendChunks gives the server a snapshot, each chunk after the one before was taken, and then the empty end.
func (h *Hub) sendChunks(ctx context.Context, subject string, from io.Reader) error {
	chunk := make([]byte, backupChunk)
	for {
		n, err := io.ReadFull(from, chunk)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		waiting, cancel := context.WithTimeout(ctx, backupPatience)
		m, asked := h.nc.RequestWithContext(waiting, subject, chunk[:n])
		cancel()
		if asked != nil {
			return line.Meaning(asked)
		}
		var refused apiError
		if len(m.Data) > 0 && json.Unmarshal(m.Data, &refused) == nil && refused.Error != nil {
			return fmt.Errorf("the server refuses: %s (%d)", refused.Error.Description, refused.Error.Code)
		}
		if n == 0 {
			return nil
		}
	}
}
