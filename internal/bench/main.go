// Command bench times moec's commands as whole processes on one core and
// prints the median, the range and the largest memory of several runs. It
// never fails for being slow.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// runs is how often each command is run.
const runs = 11

// cases are the commands, with the limits that they are meant to keep.
var cases = []struct {
	name, meant string
	args        []string
}{
	{"compile Mixtral 8x7B for 4 devices", "2 s, 1 GiB", []string{"compile", "examples/mixtral.moe", "--gpus", "4", "-o", "PLAN"}},
	{"verify that plan", "", []string{"plan", "verify", "PLAN"}},
	{"run the example, 100 tokens on 4 devices", "", []string{"run", "examples/mixtral.moe", "--gpus", "4", "--checkpoint", "examples/tiny-mixtral", "--prompt", "ROMEO:", "--max-tokens", "100", "--temperature", "0"}},
}

func main() {
	moec := "bin/moec"
	if len(os.Args) > 1 {
		moec = os.Args[1]
	}
	dir, err := os.MkdirTemp("", "moec-bench")
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	defer os.RemoveAll(dir)
	fmt.Printf("%-44s %9s %9s %9s %10s   %s\n", "one core, 11 runs", "median", "least", "most", "memory", "meant")
	for _, c := range cases {
		args := slices.Clone(c.args)
		for i, a := range args {
			if a == "PLAN" {
				args[i] = filepath.Join(dir, "m.plan")
			}
		}
		times, memory, err := measure(moec, args)
		if err != nil {
			fmt.Printf("%-44s %v\n", c.name, err)
			continue
		}
		fmt.Printf("%-44s %7.0fms %7.0fms %7.0fms %7.0fMiB   %s\n", c.name, ms(times[len(times)/2]), ms(times[0]), ms(times[len(times)-1]), float64(memory)/1024, c.meant)
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// measure returns the sorted times of several runs and the largest resident
// memory in KiB.
func measure(moec string, args []string) ([]time.Duration, int64, error) {
	var times []time.Duration
	var memory int64
	for range runs {
		c := exec.Command(moec, args...)
		c.Env = append(os.Environ(), "GOMAXPROCS=1")
		begin := time.Now()
		if out, err := c.CombinedOutput(); err != nil {
			return nil, 0, fmt.Errorf("%w: %s", err, out)
		}
		times = append(times, time.Since(begin))
		if u, ok := c.ProcessState.SysUsage().(*syscall.Rusage); ok {
			memory = max(memory, u.Maxrss)
		}
	}
	slices.Sort(times)
	return times, memory, nil
}
