package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"

	"moec/ir/diag"
	"moec/planner/plan"
)

// Exit codes. They are part of the interface; "moec help exit-codes" prints
// them.
const (
	exitOK          = 0
	exitInternal    = 1
	exitUsage       = 2
	exitDescription = 3
	exitCheckpoint  = 4
	exitPlan        = 5
	exitPlacement   = 6
	exitDevices     = 7
	exitDiffers     = 8
	exitInterrupted = 130
)

// exitCodes documents them, in order.
var exitCodes = []struct {
	Code int    `json:"code"`
	Doc  string `json:"doc"`
}{
	{exitOK, "done"},
	{exitInternal, "something went wrong that is not the user's doing: an internal error, or a file that cannot be written"},
	{exitUsage, "the command line makes no sense"},
	{exitDescription, "the description (.moe) has errors"},
	{exitCheckpoint, "the checkpoint is missing, damaged or not of the described model"},
	{exitPlan, "the plan is missing, damaged, breaks a rule or is for another model"},
	{exitPlacement, "no such strategy or machine, or it cannot be applied, or what it needs does not fit the machine"},
	{exitDevices, "the devices to run on are not there or not able"},
	{exitDiffers, "plan diff: the plans differ"},
	{exitInterrupted, "interrupted"},
}

// coded is an error that knows its exit code.
type coded struct {
	error
	code int
}

func (c coded) Unwrap() error { return c.error }

// fail gives an error an exit code.
func fail(code int, err error) error {
	if err == nil {
		return nil
	}
	return coded{err, code}
}

func failf(code int, format string, args ...any) error {
	return coded{fmt.Errorf(format, args...), code}
}

// codeOf finds the exit code of an error.
func codeOf(err error) int {
	var c coded
	var file *plan.FileError
	var rules *plan.VerifyError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &c):
		return c.code
	case errors.As(err, &file), errors.As(err, &rules), errors.Is(err, plan.ErrOtherModel):
		return exitPlan
	}
	return exitInternal
}

// report prints an error: diagnostics with their source lines, anything else
// on one line.
func report(w io.Writer, err error, asJSON bool) {
	var list diag.List
	switch {
	case errors.Is(err, syscall.EPIPE):
	case asJSON:
		reportJSON(w, err)
	case errors.As(err, &list):
		list.Render(w)
	default:
		fmt.Fprintln(w, "moec:", err)
	}
}
