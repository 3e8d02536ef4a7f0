package nvcc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// drainTime is how long to wait for the output pipe after nvcc is gone: a
// grandchild that survived the kill must not hold up the caller.
const drainTime = 2 * time.Second

// nvccRun is one run of nvcc in a directory.
type nvccRun struct {
	tool    *Toolchain
	dir     string
	args    []string
	timeout time.Duration
}

// do runs nvcc and returns everything that it printed.
func (r *nvccRun) do(ctx context.Context) (string, error) {
	scratch := filepath.Join(r.dir, scratchDir)
	if err := os.MkdirAll(scratch, dirMode); err != nil {
		return "", err
	}
	defer os.RemoveAll(scratch)
	late := fmt.Errorf("it did not finish within %v and was stopped", r.timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, r.timeout, late)
	defer cancel()

	cmd := exec.CommandContext(ctx, r.tool.Path, r.args...)
	cmd.Dir = r.dir
	cmd.Env = environment(os.Environ(), scratch)
	// One buffer for both: the order of messages is kept.
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := runGroup(cmd)
	log := strings.ToValidUTF8(out.String(), "\uFFFD")
	if err == nil {
		return log, nil
	}
	if ctx.Err() != nil {
		return log, context.Cause(ctx)
	}
	return log, explainExit(err)
}

// explainExit adds to an exit status what it usually means.
func explainExit(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() && ws.Signal() == syscall.SIGKILL {
			return fmt.Errorf("it was killed (%w), most often for lack of memory", err)
		}
	}
	return err
}

// environment is the caller's, without what would change the image behind the
// cache key's back, and with nvcc's temporary files in a directory of ours.
func environment(env []string, scratch string) []string {
	out := make([]string, 0, len(env)+1)
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		switch name {
		case "NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS", "TMPDIR":
		default:
			out = append(out, kv)
		}
	}
	return append(out, "TMPDIR="+scratch)
}
