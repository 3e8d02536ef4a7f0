package checkpoint

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// Error says why a file or directory cannot be used: one problem, on one line.
type Error struct {
	File   string `json:"file"`             // path of the file or directory
	At     string `json:"at,omitempty"`     // "line:column" in a text file, or ""
	What   string `json:"what"`             // what is wrong
	Need   string `json:"need,omitempty"`   // what is wanted, or ""
	Have   string `json:"have,omitempty"`   // what is there, or ""
	Remedy string `json:"remedy,omitempty"` // what helps, or ""
	Err    error  `json:"-"`                // the cause, if the system gave one
}

// Error implements error.
func (e *Error) Error() string {
	s := e.File
	if e.At != "" {
		s += ":" + e.At
	}
	s += ": " + e.What
	if e.Need != "" {
		s += ": need " + e.Need
	}
	if e.Have != "" {
		if e.Need == "" {
			s += ":"
		} else {
			s += ","
		}
		s += " have " + e.Have
	}
	if e.Remedy != "" {
		s += "; " + e.Remedy
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Remedies that many errors share.
const (
	remedyAgain  = "download it again"
	remedySave   = "download it again, or save it again with the safetensors library"
	remedyDisk   = "check the disk and the file's permissions"
	remedyPickle = "convert it to safetensors, for instance with save_pretrained(DIR, safe_serialization=True)"
	remedyJSON   = "correct it or download it again"
)

// Problems are several errors of one checkpoint, in the order found.
type Problems []*Error

// shownProblems bounds the lines of one error text.
const shownProblems = 20

// Error gives one line for each problem, and says how many it leaves out.
func (p Problems) Error() string {
	lines := make([]string, 0, min(len(p), shownProblems+1))
	for i, e := range p {
		if i == shownProblems {
			lines = append(lines, fmt.Sprintf("and %d more problems", len(p)-i))
			break
		}
		lines = append(lines, e.Error())
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the problems, for errors.As.
func (p Problems) Unwrap() []error {
	list := make([]error, len(p))
	for i, e := range p {
		list[i] = e
	}
	return list
}

// err returns nil, the only problem, or all of them.
func (p Problems) err() error {
	switch len(p) {
	case 0:
		return nil
	case 1:
		return p[0]
	}
	return p
}

// add appends err, which may be nil, an *Error or Problems. Any other error
// becomes one with the file's name.
func (p *Problems) add(file string, err error) {
	switch e := err.(type) {
	case nil:
	case *Error:
		*p = append(*p, e)
	case Problems:
		*p = append(*p, e...)
	default:
		*p = append(*p, &Error{File: file, What: err.Error(), Err: err})
	}
}

// digits writes n with commas between thousands: sizes in errors are long.
func digits[T int | int64 | uint64](n T) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// bytesOf writes a size in bytes.
func bytesOf[T int | int64 | uint64](n T) string {
	if n == 1 {
		return "1 byte"
	}
	return digits(n) + " bytes"
}

// listedNames bounds how many names a message lists.
const listedNames = 8

// listing joins names, which may come from a file, and says how many it leaves
// out.
func listing(names []string) string {
	shown := make([]string, 0, min(len(names), listedNames+1))
	for i, n := range names {
		if i == listedNames {
			shown = append(shown, fmt.Sprintf("and %s more", digits(len(names)-i)))
			break
		}
		shown = append(shown, plain(n))
	}
	return strings.Join(shown, ", ")
}

// plain returns s, quoted if it holds anything that would not print as itself.
func plain(s string) string {
	for _, r := range s {
		if !unicode.IsPrint(r) || r == '"' || r == unicode.ReplacementChar {
			return strconv.QuoteToGraphic(s)
		}
	}
	return s
}
