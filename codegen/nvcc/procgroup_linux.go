package nvcc

import (
	"os/exec"
	"runtime"
	"syscall"
)

// runGroup runs a command in a process group of its own and makes
// cancellation kill the group: nvcc starts cicc, ptxas and the host compiler,
// which would otherwise run on. The command also dies with this process, even
// when that is killed.
func runGroup(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = drainTime
	// "This process" means the thread that started the command, so the thread
	// must live as long as the command.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return cmd.Run()
}
