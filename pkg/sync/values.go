package sync

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// Values are the values of a bundle's parameters at a site, each a string, int64 or bool. encoding/json alone would make floats of integers.
type Values map[string]any

// UnmarshalJSON reads an object of strings, whole numbers of 64 bits and booleans.
func (v *Values) UnmarshalJSON(raw []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var decoded map[string]any
	if err := decoder.Decode(&decoded); err != nil {
		return fmt.Errorf("values: %w", err)
	}
	for name, value := range decoded {
		switch value := value.(type) {
		case string, bool:
		case json.Number:
			n, err := strconv.ParseInt(value.String(), 10, 64)
			if err != nil {
				return fmt.Errorf("value of %.80q: want a whole number of 64 bits", name)
			}
			decoded[name] = n
		default:
			return fmt.Errorf("value of %.80q: %w", name, errValueType)
		}
	}
	*v = decoded
	return nil
}

var errValueType = errors.New("want a string, a whole number or a boolean")
