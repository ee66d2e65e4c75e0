package sync

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// CarriedKind says what a section of a carried file is.
type CarriedKind uint32

// The kinds.
const (
	CarriedSite       CarriedKind = 1 // name of the site that the file is for or from: the first section
	CarriedAssignment CarriedKind = 2 // a sealed Assignment, as on the bus
	CarriedBundle     CarriedKind = 3 // a bundle file (bundle.EncodeFile)
	CarriedState      CarriedKind = 4 // a sealed State
	CarriedEvents     CarriedKind = 5 // a sealed EventBatch
	CarriedTrust      CarriedKind = 6 // a file of the root of trust: its name on the bus, a line feed, its bytes; before the assignment
)

// carriedMagic begins a carried file: what goes between hub and site by hand where there is no line. Sections follow until the end, each a kind and a
// length in 32 bits, high byte first, and that many bytes. There are no names and no paths in it, and nothing in it is believed for how it came:
// what is signed on the bus is signed here.
const carriedMagic = "holdfast carried 1\n"

// MaxCarried bounds a carried file, in bytes.
const MaxCarried = 256 << 20

// maxCarried bounds the sections of each kind, in bytes.
var maxCarried = map[CarriedKind]int{
	CarriedSite:       64,
	CarriedAssignment: MaxAssignment,
	CarriedBundle:     bundle.MaxManifestSize + bundle.MaxSignatures*(bundle.MaxSignatureSize+4) + bundle.MaxPackedSize + 64,
	CarriedState:      MaxMessage,
	CarriedEvents:     MaxMessage,
	CarriedTrust:      MaxMessage,
}

// WriteCarried begins a carried file and gives the function that adds its sections.
func WriteCarried(w io.Writer, site bundle.SiteID) (add func(kind CarriedKind, data []byte) error, err error) {
	if _, err := io.WriteString(w, carriedMagic); err != nil {
		return nil, err
	}
	add = func(kind CarriedKind, data []byte) error {
		if limit := maxCarried[kind]; len(data) == 0 || len(data) > limit {
			return fmt.Errorf("carried file: a section of kind %d has %d bytes, want 1 to %d", kind, len(data), limit)
		}
		head := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(kind)), uint32(len(data)))
		if _, err := w.Write(head); err != nil {
			return err
		}
		_, err := w.Write(data)
		return err
	}
	return add, add(CarriedSite, []byte(site))
}

// ReadCarried reads a carried file for or from a site, one section after the other, and refuses what is longer than its kind may be before it is read.
func ReadCarried(r io.Reader, visit func(site bundle.SiteID, kind CarriedKind, data []byte) error) error {
	magic := make([]byte, len(carriedMagic))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != carriedMagic {
		return errors.New("carried file: it is none")
	}
	var site bundle.SiteID
	total := len(magic)
	for n := 0; ; n++ {
		head := make([]byte, 8)
		_, err := io.ReadFull(r, head)
		switch {
		case errors.Is(err, io.EOF) && n > 0:
			return nil
		case err != nil:
			return errors.New("carried file: it ends in the middle")
		}
		kind, size := CarriedKind(binary.BigEndian.Uint32(head)), binary.BigEndian.Uint32(head[4:])
		if limit := maxCarried[kind]; size == 0 || int64(size) > int64(limit) {
			return fmt.Errorf("carried file: section %d is of kind %d and says that it has %d bytes, want 1 to %d", n+1, kind, size, limit)
		}
		if total += len(head) + int(size); total > MaxCarried {
			return fmt.Errorf("carried file: it has more than %d bytes", MaxCarried)
		}
		data, err := io.ReadAll(io.LimitReader(r, int64(size)))
		if err != nil || len(data) != int(size) {
			return fmt.Errorf("carried file: it ends after %d of the %d bytes of section %d", len(data), size, n+1)
		}
		if (n == 0) != (kind == CarriedSite) {
			return errors.New("carried file: want the site's name first, and once")
		}
		if n == 0 {
			if site, err = bundle.ParseSiteID(string(data)); err != nil {
				return fmt.Errorf("carried file: %w", err)
			}
			continue
		}
		if err := visit(site, kind, data); err != nil {
			return err
		}
	}
}

// Brought is what came by hand: a sealed assignment, or nil, and the manifests whose bundles are stored now. The same rules hold as for what comes
// from the bus.
type Brought struct {
	Assignment []byte
	Bundles    []bundle.Digest
}

func (Brought) input() {}

// Exported says that a snapshot is to be given out by hand: Edge.Exported is it.
type Exported struct{}

func (Exported) input() {}

// bring takes what came by hand as if a look had found it.
func (e *Edge) bring(now time.Time, in Brought, out *Effects) {
	if e.brought == nil {
		e.brought = map[bundle.Digest]bool{}
	}
	for _, d := range in.Bundles {
		e.brought[d] = true
	}
	if in.Assignment != nil && e.store.why == "" {
		e.assigned(now, in.Assignment, out)
	}
	for _, h := range e.bundles { // what could not be had may be there now
		if h.Want != nil && e.brought[h.Want.Bundle.Digest] && h.Phase == PhaseFetching {
			h.retryAt = now
		}
	}
}

// export gives out a snapshot under a sequence of its own.
func (e *Edge) export(now time.Time, out *Effects) {
	e.exported = e.state(now)
	if e.snapshot.next++; e.snapshot.next > e.identity.Snapshots {
		e.reserveSnapshots(out)
	}
}

// Exported is the snapshot that the last Exported made.
func (e *Edge) Exported() State { return e.exported }
