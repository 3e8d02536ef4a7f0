//go:build unix && !linux

package nvcc

import (
	"os/exec"
	"syscall"
)

// runGroup runs a command in a process group of its own and makes
// cancellation kill the group: nvcc starts cicc, ptxas and the host compiler,
// which would otherwise run on.
func runGroup(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = drainTime
	return cmd.Run()
}
