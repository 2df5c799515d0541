// Package api is the hand-off protocol: how the privileged agent gives an unprivileged ztunnel the sockets that live in the
// pods' network namespaces. It answers what the two may say to each other and how a message with its file descriptors
// crosses the socket. It does not decide who may connect, which pods there are or what happens next: agent/handoff and
// ztunnel/sockets do, and only they call it.
//
// The agent listens on a SOCK_SEQPACKET Unix socket. A message is one packet ([MaxMessage] bytes, [MaxFds] descriptors), so
// there is no framing to get wrong.
//
//	ztunnel                                   agent
//	   | Hello{versions, instance}              |   first message, or the connection ends
//	   |--------------------------------------->|
//	   |                 Welcome{version, node} |   or Refuse{reason} and the end
//	   |<---------------------------------------|
//	   | ReturnPod{pod, kinds}+fds  (0..n)      |   only a ztunnel that outlived an agent has any
//	   |--------------------------------------->|
//	   | ReturnDone                             |
//	   |--------------------------------------->|
//	   |   AddPod{pod, kinds}+fds, KeepPod{uid} |   (0..n)
//	   |<---------------------------------------|
//	   | Ack{of, error}             (each)      |
//	   |--------------------------------------->|
//	   |                           SnapshotSent |   a pod that nobody named is gone
//	   |<---------------------------------------|
//	   | Ready                                  |   older ztunnels get Drain{deadline}
//	   |--------------------------------------->|
//	   |      AddPod, DelPod{uid, reason}, Drain|   as pods come and go; each is acknowledged
//	   |<---------------------------------------|
//	   | SocketRequest{uid, kind, count}        |   whenever its stock runs low
//	   |--------------------------------------->|
//	   |          Sockets{request, count}+fds   |   or an error and no descriptors
//	   |<---------------------------------------|
//	   | Draining                               |   stopped accepting by itself (SIGTERM)
//	   |--------------------------------------->|
//
// A socket of SocketRequest is used on the raw descriptor: optionally bind(2) to the address that the application must see
// as its client (inbound only: nothing is bound, the kernel program remembers it), then a non-blocking connect(2), then
// net.FileConn. getsockname(2) on what a 15001, 15006 or 15053 listener accepted is the original destination.
//
// A [Conn] may be used by one receiving and any number of sending goroutines.
package api

//go:generate sh -c "protoc --plugin=protoc-gen-go=$(go tool -n protoc-gen-go) --go_out=. --go_opt=paths=source_relative handoff.proto"
