// Command fuzzall runs every fuzz target of the module for a given time each.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// target is a fuzz function of a package.
type target struct{ pkg, name string }

var fuzzFunc = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: fuzzall TIME, such as 10s")
		os.Exit(2)
	}
	targets, err := find(".")
	if err != nil {
		fmt.Fprintln(os.Stderr, "fuzzall:", err)
		os.Exit(1)
	}
	for _, t := range targets {
		fmt.Println(t.pkg, t.name)
		c := exec.Command("go", "test", t.pkg, "-run", "^$", "-fuzz", "^"+t.name+"$", "-fuzztime", os.Args[1], "-fuzzminimizetime", "1s")
		if out, err := c.CombinedOutput(); err != nil && !ended(string(out)) {
			fmt.Printf("%s\n", out)
			os.Exit(1)
		}
	}
	fmt.Println(len(targets), "fuzz targets, no finding")
}

// found is what go test prints when an input fails: it always writes it.
const found = "Failing input written to"

// late is what it prints, without an input, if a worker is busy when the time
// is over.
var late = regexp.MustCompile(`(?m)^--- FAIL: Fuzz\w+ \([0-9.]+s\)\n +context deadline exceeded\nFAIL$`)

// ended reports whether a failure says no more than that the time was over.
func ended(out string) bool {
	return late.MatchString(out) && !strings.Contains(out, found) && !strings.Contains(out, "panic:")
}

// find lists the fuzz targets below root, in order of their files.
func find(root string) ([]target, error) {
	var list []target
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		for _, m := range fuzzFunc.FindAllSubmatch(text, -1) {
			list = append(list, target{"./" + filepath.ToSlash(filepath.Dir(path)), string(m[1])})
		}
		return err
	})
	return list, err
}
