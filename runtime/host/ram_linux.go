package host

import "syscall"

// ram returns the bytes of memory that the host has, 0 if it does not say.
func ram() int64 {
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err != nil {
		return 0
	}
	return int64(info.Totalram) * int64(info.Unit)
}
