// Package jinja renders chat templates: the part of the Jinja language that the
// templates in Hugging Face model directories use.
//
// In goes the source of one template and the values that it may read; out comes
// text, the same as Jinja 2's sandbox gives with trim_blocks and lstrip_blocks,
// or an error with the template's name, the line and the kind of Python
// exception that Jinja would raise. A template computes with the values of this
// package and nothing else: it cannot reach Go values, files, other templates,
// the clock or chance. How much it may compute, build and print is bounded by
// Limits, so that a hostile template costs bounded time and memory.
package jinja

import (
	"cmp"
	"fmt"
)

// ErrorKind is the kind of an Error, named as the Python exception is.
type ErrorKind string

// The kinds of errors.
const (
	Raised        ErrorKind = "TemplateError" // by the template, with raise_exception
	SyntaxError   ErrorKind = "TemplateSyntaxError"
	RuntimeError  ErrorKind = "TemplateRuntimeError"
	Undefinedness ErrorKind = "UndefinedError"
	TypeError     ErrorKind = "TypeError"
	AttributeFail ErrorKind = "AttributeError"
	ValueError    ErrorKind = "ValueError"
	KeyError      ErrorKind = "KeyError"
	IndexError    ErrorKind = "IndexError"
	FilterError   ErrorKind = "FilterArgumentError"
	ZeroDivision  ErrorKind = "ZeroDivisionError"
	OverflowError ErrorKind = "OverflowError"
	SecurityError ErrorKind = "SecurityError"
	LimitError    ErrorKind = "LimitError" // has no counterpart in Python
)

// Error is a fault in a template or in rendering it.
type Error struct {
	Kind    ErrorKind
	Name    string // the template's
	Line    int    // 1-based
	Message string // for Raised, the text that the template gave
}

// Error returns "name:line: kind: message".
func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d: %s: %s", e.Name, e.Line, e.Kind, e.Message)
}

// errorf returns an Error without a place; the node that is being evaluated
// adds it.
func errorf(kind ErrorKind, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// Limits bounds what rendering may cost. A limit that is 0 is DefaultLimits'.
type Limits struct {
	Steps  int // expressions and statements evaluated
	Output int // bytes of text printed
	Memory int // bytes of texts and lists built on the way, all together
	Depth  int // macro calls and recursive loops inside each other
}

// filled returns the limits with those of DefaultLimits where there is none.
func (l Limits) filled() Limits {
	return Limits{
		Steps:  cmp.Or(l.Steps, DefaultLimits.Steps),
		Output: cmp.Or(l.Output, DefaultLimits.Output),
		Memory: cmp.Or(l.Memory, DefaultLimits.Memory),
		Depth:  cmp.Or(l.Depth, DefaultLimits.Depth),
	}
}

// DefaultLimits is far beyond what chats of a million tokens need.
var DefaultLimits = Limits{Steps: 10_000_000, Output: 32 << 20, Memory: 512 << 20, Depth: 64}
