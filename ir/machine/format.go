package machine

import (
	"bytes"
	"encoding/json"
	"regexp"
)

// Layout of a description: a line for each number, with its unit and source.
var (
	// flat is an object without others in it, spread over lines by the encoder.
	// Strings hold no line breaks, so it never begins or ends in one.
	flat  = regexp.MustCompile(`\{\n[^{}\[\]]*?\n\s*\}`)
	size  = regexp.MustCompile(`\{\n\s*("bytes": \d+,)\n\s*("time": \{[^\n]*\})\n\s*\}`)
	start = regexp.MustCompile(`\{\n\s*`)
	end   = regexp.MustCompile(`\n\s*\}`)
	next  = regexp.MustCompile(`,\n\s*`)
)

// Format lays a description out as the built-in ones are. Parse reads it back.
func (m *Machine) Format() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(m); err != nil {
		return nil, err
	}
	text := flat.ReplaceAllFunc(b.Bytes(), func(object []byte) []byte {
		object = start.ReplaceAll(object, []byte("{"))
		object = end.ReplaceAll(object, []byte("}"))
		return next.ReplaceAll(object, []byte(", "))
	})
	return size.ReplaceAll(text, []byte("{$1 $2}")), nil
}
