package admin

import (
	"errors"
	"syscall"
)

// familyMissing reports whether all errors say that the machine does not have the address's family (IPv6 is compiled out
// or disabled on the loopback device).
func familyMissing(errs []error) bool {
	for _, err := range errs {
		if !errors.Is(err, syscall.EADDRNOTAVAIL) && !errors.Is(err, syscall.EAFNOSUPPORT) {
			return false
		}
	}
	return true
}
