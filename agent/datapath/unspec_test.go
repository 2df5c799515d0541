package datapath

import "unsafe"

var unspecAddr [16]byte // AF_UNSPEC is 0

// unspec is a struct sockaddr of family AF_UNSPEC: connecting to it disconnects.
func unspec() uintptr { return uintptr(unsafe.Pointer(&unspecAddr)) }
