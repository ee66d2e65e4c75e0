package store

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

const (
	sealVersion    = 1
	recordOverhead = 1 + sha256.Size
)

// sumOf is the hash a value carries. The key is part of it, so that a value never passes for another key's.
func sumOf(key string, value []byte) hash {
	d := sha256.New()
	d.Write(binary.BigEndian.AppendUint32(nil, uint32(len(key))))
	d.Write([]byte(key))
	d.Write(value)
	return hash(d.Sum(nil))
}

// deletion is what the chain sees of a delete.
func deletion(key string) hash { return sha256.Sum256([]byte("deleted\x00" + key)) }

func seal(key string, value []byte) (raw []byte, sum hash) {
	sum = sumOf(key, value)
	raw = make([]byte, 0, recordOverhead+len(value))
	raw = append(raw, sealVersion)
	raw = append(raw, sum[:]...)
	return append(raw, value...), sum
}

// sealOf gives the hash a stored value claims.
func sealOf(raw []byte) (hash, error) {
	if len(raw) < recordOverhead || raw[0] != sealVersion {
		return hash{}, fmt.Errorf("stored value of %d bytes: not one of this version", len(raw))
	}
	return hash(raw[1:recordOverhead]), nil
}

// unseal checks a stored value. The value is part of raw.
func unseal(key string, raw []byte) (value []byte, sum hash, err error) {
	if sum, err = sealOf(raw); err != nil {
		return nil, hash{}, fmt.Errorf("%q: %w", key, err)
	}
	value = raw[recordOverhead:]
	if sumOf(key, value) != sum {
		return nil, hash{}, fmt.Errorf("%q: its hash does not match", key)
	}
	return value, sum, nil
}
