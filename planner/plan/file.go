package plan

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// format is the first field of every plan file.
const format = "moec plan"

// maxFile bounds what Read takes into memory: a plan of 61 distinct layers
// on 64 devices is about 40 MB.
const maxFile = 256 << 20

// blank stands for the checksum while the checksum is computed.
var blank = "sha256:" + strings.Repeat("0", 64)

// fileJSON is a plan file. Its text is canonical: the same plan always gives
// the same bytes, and Read refuses any other.
type fileJSON struct {
	Format   string `json:"format"`
	Version  int    `json:"version"`
	Checksum string `json:"checksum"`
	Plan
}

// Encode returns the plan's file.
func Encode(p *Plan) ([]byte, error) {
	raw, err := marshal(fileJSON{format, Version, blank, *p})
	if err != nil {
		return nil, fmt.Errorf("internal error: plan: %w", err)
	}
	text := layout(noNulls(raw))
	return bytes.Replace(text, []byte(blank), []byte(checksum(text)), 1), nil
}

// noNulls writes empty lists as [], not as null: nothing in a plan is neither
// a value nor a list.
func noNulls(raw []byte) []byte {
	var out bytes.Buffer
	quoted := false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case quoted && c == '\\':
			out.WriteByte(c)
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && c == 'n': // no other value begins with it
			out.WriteString("[]")
			i += len("null") - 1
			continue
		}
		out.WriteByte(raw[i])
	}
	return out.Bytes()
}

// checksum hashes a plan's text in which the checksum is blank.
func checksum(text []byte) string {
	sum := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// FileError says why a file is not a plan that can be used.
type FileError struct {
	File   string
	What   string
	Need   string // what is wanted, or ""
	Have   string // what is there, or ""
	Remedy string
}

// Error implements error on one line.
func (e *FileError) Error() string {
	s := e.File + ": " + e.What
	if e.Need != "" {
		s += ": need " + e.Need + ", have " + e.Have
	}
	if e.Remedy != "" {
		s += "; " + e.Remedy
	}
	return s
}

const compileAgain = `make it again with "moec compile"`

// Decode reads a plan from a file's text. It checks the form only; Verify
// checks that the plan makes sense.
func Decode(name string, text []byte) (*Plan, error) {
	var head struct {
		Format   string `json:"format"`
		Version  int    `json:"version"`
		Checksum string `json:"checksum"`
	}
	if err := json.Unmarshal(text, &head); err != nil || head.Format != format {
		what := "is not a plan file"
		if err != nil && bytes.HasPrefix(text, []byte("{\n  \"format\": \""+format+"\"")) {
			what = "is damaged: " + err.Error()
		}
		return nil, &FileError{File: name, What: what, Remedy: compileAgain}
	}
	if head.Version != Version {
		return nil, &FileError{File: name, What: "plan format version", Need: fmt.Sprint(Version), Have: fmt.Sprint(head.Version), Remedy: compileAgain}
	}
	if got := checksum(bytes.Replace(text, []byte(head.Checksum), []byte(blank), 1)); got != head.Checksum {
		return nil, &FileError{File: name, What: "checksum", Need: head.Checksum, Have: got, Remedy: "the file was changed or damaged; " + compileAgain}
	}
	var f fileJSON
	if err := strict(text, &f); err != nil {
		return nil, &FileError{File: name, What: "has a part that this moec cannot read: " + err.Error(), Remedy: compileAgain}
	}
	again, err := Encode(&f.Plan)
	if err != nil || !bytes.Equal(again, text) {
		return nil, &FileError{File: name, What: "is not in canonical form", Remedy: compileAgain}
	}
	return &f.Plan, nil
}

// Read reads and decodes a plan file.
func Read(path string) (*Plan, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &FileError{File: path, What: "there is no such plan file", Remedy: `"moec compile FILE.moe -o ` + path + `" makes one`}
	case err != nil:
		return nil, &FileError{File: path, What: err.Error()}
	case !info.Mode().IsRegular():
		return nil, &FileError{File: path, What: "is not a regular file", Remedy: "give the plan file that moec compile wrote"}
	case info.Size() > maxFile:
		return nil, &FileError{File: path, What: "is too large for a plan", Need: fmt.Sprintf("at most %d bytes", maxFile), Have: fmt.Sprint(info.Size())}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, &FileError{File: path, What: err.Error()}
	}
	return Decode(path, text)
}

// Comparable returns the plan's text without the checksum, which would differ
// whenever anything does.
func Comparable(p *Plan) (string, error) {
	raw, err := marshal(fileJSON{format, Version, "", *p})
	if err != nil {
		return "", fmt.Errorf("internal error: plan: %w", err)
	}
	return string(layout(noNulls(raw))), nil
}
