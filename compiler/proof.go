package compiler

import (
	"fmt"

	"moec/planner/prove"
)

// Proof says how it was shown that a plan computes what its description says.
type Proof struct {
	prove.Report
	// Full says that what every buffer holds was followed at full size, too.
	Full bool
}

// ProofError says that a plan computes something else than its description.
type ProofError struct{ Err error }

// Error implements error.
func (e *ProofError) Error() string {
	return fmt.Sprintf("internal error: the plan does not compute what the description says: %v", e.Err)
}

// Unwrap returns where the two part.
func (e *ProofError) Unwrap() error { return e.Err }

// proofSeed chooses the numbers that plan and description are compared on. Any
// would do; it is the same every time.
const proofSeed = 1

// prove interprets the plan and the graph that it was made from over a prime
// field, and follows the plan's buffers at full size.
func (r *Result) prove() error {
	report, err := prove.Check(r.Plan, r.Logical, prove.Options{Seed: proofSeed})
	if err == nil {
		err = prove.Intervals(r.Plan, r.Logical)
	}
	if err != nil {
		return &ProofError{err}
	}
	r.Proof = &Proof{report, !report.Unrounded}
	return nil
}
