package main

import "testing"

// TestEnded tells the end of the time from a finding.
func TestEnded(t *testing.T) {
	for _, c := range []struct {
		out  string
		want bool
	}{
		{"fuzz: elapsed: 10s, execs: 5\n--- FAIL: FuzzFiles (10.11s)\n    context deadline exceeded\nFAIL\nexit status 1\n", true},
		{"--- FAIL: FuzzFiles (3.1s)\n    --- FAIL: FuzzFiles (0.00s)\n        files_test.go:9: wrong\n\n    Failing input written to testdata/fuzz/FuzzFiles/1\nFAIL\n", false},
		{"--- FAIL: FuzzFiles (10.11s)\n    context deadline exceeded\nFAIL\nFailing input written to testdata/fuzz/FuzzFiles/1\n", false},
		{"--- FAIL: FuzzFiles (3.1s)\n    fuzzing process hung or terminated unexpectedly: exit status 2\nFAIL\n", false},
		{"", false},
	} {
		if got := ended(c.out); got != c.want {
			t.Errorf("%q: %v, want %v", c.out, got, c.want)
		}
	}
}
